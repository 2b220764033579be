// A C interface to AOTInductor's packages: load, bind constants, run.
//
// Code for the CPU is loaded from memory. The stock loader unpacks a package into a directory of its own
// under /tmp, which a worker that is killed would leave behind; packages for a GPU still go through it,
// because their kernels are files of their own.
//
// Tensors cross as pointers to at::Tensor, which is what tch holds. No exception leaves this file: each
// function returns a status and writes the message into the caller's buffer.

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner_cpu.h>
#include <torch/version.h>

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using torch::inductor::AOTIModelContainerRunner;
using torch::inductor::AOTIModelContainerRunnerCpu;
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

// A file in memory that can be loaded as a library. It stays open as long as the library is loaded: the
// dynamic loader knows libraries by their names, and the number would be given out again.
class LibraryInMemory {
 public:
  LibraryInMemory(const void* bytes, size_t size) : descriptor_(memfd_create("reel-package", MFD_CLOEXEC)) {
    const char* next = static_cast<const char*>(bytes);
    for (size_t left = size; left > 0;) {
      const ssize_t written = write(descriptor_, next, left);
      TORCH_CHECK(written > 0, "cannot write a package into memory: ", std::strerror(errno));
      next += written;
      left -= static_cast<size_t>(written);
    }
  }
  ~LibraryInMemory() { close(descriptor_); }
  LibraryInMemory(const LibraryInMemory&) = delete;
  LibraryInMemory& operator=(const LibraryInMemory&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

bool is_library(const std::string& name) {
  return name.size() > 3 && name.compare(name.size() - 3, 3, ".so") == 0;
}

std::unique_ptr<LibraryInMemory> library_of(const char* path) {
  caffe2::serialize::PyTorchStreamReader archive{std::string(path)};
  const std::vector<std::string> records = archive.getAllRecords();
  const auto library = std::find_if(records.begin(), records.end(), is_library);
  TORCH_CHECK(library != records.end(), "the package has no compiled code");
  const auto [data, size] = archive.getRecord(*library);
  return std::make_unique<LibraryInMemory>(data.get(), size);
}

// One loaded package: either its code from memory, or the stock loader.
class Package {
 public:
  Package(const char* path, int device) {
    if (device >= 0) {
      loader_ = std::make_unique<AOTIModelPackageLoader>(
          path, "model", false, 1, static_cast<c10::DeviceIndex>(device));
    } else {
      library_ = library_of(path);
      code_ = std::make_unique<AOTIModelContainerRunnerCpu>(library_->path());
    }
  }

  AOTIModelContainerRunner& runner() { return code_ ? *code_ : *loader_->get_runner(); }

 private:
  // In this order: the code goes before the file that it came from.
  std::unique_ptr<LibraryInMemory> library_;
  std::unique_ptr<AOTIModelContainerRunnerCpu> code_;
  std::unique_ptr<AOTIModelPackageLoader> loader_;
};

AOTIModelContainerRunner& runner_of(void* package) { return static_cast<Package*>(package)->runner(); }

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
    *package = new Package(path, device);
  });
}

void reel_package_free(void* package) { delete static_cast<Package*>(package); }

// Calls `visit` with the name of each constant that the package needs.
int reel_package_constants(
    void* package, void (*visit)(void*, const char*, size_t), void* context, Message* message) {
  return guarded(message, [&] {
    for (const auto& [internal, name] : runner_of(package).getConstantNamesToOriginalFQNs()) {
      visit(context, name.data(), name.size());
    }
  });
}

// Binds constants without copying. Their memory must outlive the package.
int reel_package_bind(
    void* package, const char* const* names, at::Tensor* const* tensors, size_t count, Message* message) {
  return guarded(message, [&] {
    std::unordered_map<std::string, at::Tensor*> by_name;
    for (size_t at = 0; at < count; ++at) {
      by_name.emplace(names[at], tensors[at]);
    }
    std::unordered_map<std::string, at::Tensor> constants;
    for (const auto& [internal, name] : runner_of(package).getConstantNamesToOriginalFQNs()) {
      constants.emplace(internal, *by_name.at(name));
    }
    runner_of(package).update_constant_buffer(
        constants, /*use_inactive=*/false, /*validate_full_updates=*/true, /*user_managed=*/true);
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
    auto outputs = runner_of(package).boxed_run(std::move(arguments));
    TORCH_CHECK(outputs.size() == 1, "the package has ", outputs.size(), " outputs instead of one");
    *output = new at::Tensor(std::move(outputs.front()));
  });
}

}  // extern "C"
