// A C interface to AOTInductor's package loader: load, bind constants, run.
//
// Tensors cross as pointers to at::Tensor, which is what tch holds. No exception leaves this file: each
// function returns a status and writes the message into the caller's buffer.

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/version.h>

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <cstring>
#include <exception>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using torch::inductor::AOTIModelPackageLoader;

enum Status : int { kOk = 0, kFailed = 1, kOutOfMemory = 2, kDevice = 3 };

struct Message {
  char* text;
  size_t capacity;
};

Status fail(Status status, const char* what, Message* message) {
  // The first line says what happened; the rest is a C++ stack.
  const size_t line = std::strcspn(what, "\n");
  const size_t length = std::min(line, message->capacity - 1);
  std::memcpy(message->text, what, length);
  message->text[length] = '\0';
  return status;
}

template <typename Body>
int guarded(Message* message, Body body) {
  try {
    body();
    return kOk;
  } catch (const c10::OutOfMemoryError& error) {
    return fail(kOutOfMemory, error.what_without_backtrace(), message);
  } catch (const c10::AcceleratorError& error) {
    return fail(kDevice, error.what_without_backtrace(), message);
  } catch (const std::bad_alloc& error) {
    return fail(kOutOfMemory, error.what(), message);
  } catch (const c10::Error& error) {
    return fail(kFailed, error.what_without_backtrace(), message);
  } catch (const std::exception& error) {
    return fail(kFailed, error.what(), message);
  } catch (...) {
    return fail(kFailed, "unknown C++ exception", message);
  }
}

}  // namespace

extern "C" {

const char* reel_torch_version() { return TORCH_VERSION; }

// Full precision everywhere: packages are verified against eager execution without TF32.
void reel_full_precision() { at::globalContext().setAllowTF32CuDNN(false); }

int reel_library_load(const char* path, Message* message) {
  if (dlopen(path, RTLD_NOW | RTLD_GLOBAL) != nullptr) {
    return kOk;
  }
  return fail(kFailed, dlerror(), message);
}

// The compute capability of a GPU; needs the CUDA libraries to be loaded.
int reel_cuda_capability(int device, int* major, int* minor, Message* message) {
  using Attribute = int (*)(int*, int, int);
  constexpr int kMajor = 75, kMinor = 76;  // cudaDevAttrComputeCapabilityMajor and Minor
  const auto attribute = reinterpret_cast<Attribute>(dlsym(RTLD_DEFAULT, "cudaDeviceGetAttribute"));
  if (attribute == nullptr || attribute(major, kMajor, device) != 0 || attribute(minor, kMinor, device) != 0) {
    return fail(kDevice, "cannot read the compute capability of the GPU", message);
  }
  return kOk;
}

int reel_package_load(const char* path, int device, void** package, Message* message) {
  return guarded(message, [&] {
    *package = new AOTIModelPackageLoader(path, "model", false, 1, static_cast<c10::DeviceIndex>(device));
  });
}

void reel_package_free(void* package) { delete static_cast<AOTIModelPackageLoader*>(package); }

// Calls `visit` with the name of each constant that the package needs.
int reel_package_constants(
    void* package, void (*visit)(void*, const char*, size_t), void* context, Message* message) {
  return guarded(message, [&] {
    for (const std::string& name : static_cast<AOTIModelPackageLoader*>(package)->get_constant_fqns()) {
      visit(context, name.data(), name.size());
    }
  });
}

// Binds constants without copying. Their memory must outlive the package.
int reel_package_bind(
    void* package, const char* const* names, at::Tensor* const* tensors, size_t count, Message* message) {
  return guarded(message, [&] {
    std::unordered_map<std::string, at::Tensor> constants;
    for (size_t at = 0; at < count; ++at) {
      constants.emplace(names[at], *tensors[at]);
    }
    static_cast<AOTIModelPackageLoader*>(package)->load_constants(
        constants, /*use_inactive=*/false, /*check_full_update=*/true, /*user_managed=*/true);
  });
}

// Runs the package; `output` receives its only output, owned by the caller.
int reel_package_run(
    void* package, at::Tensor* const* inputs, size_t count, at::Tensor** output, Message* message) {
  return guarded(message, [&] {
    std::vector<at::Tensor> arguments;
    arguments.reserve(count);
    for (size_t at = 0; at < count; ++at) {
      arguments.push_back(*inputs[at]);
    }
    auto outputs = static_cast<AOTIModelPackageLoader*>(package)->boxed_run(std::move(arguments));
    TORCH_CHECK(outputs.size() == 1, "the package has ", outputs.size(), " outputs instead of one");
    *output = new at::Tensor(std::move(outputs.front()));
  });
}

}  // extern "C"
