//! How an operation is put together: what it takes, what it answers, what can go wrong.

use super::errors::ERRORS;
use super::names::one_of;
use utoipa::ToSchema;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::encoding::Encoding;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::link::Link;
use utoipa::openapi::path::{
    Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, PathItemBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{HttpMethod, Ref, RefOr, Required};

/// The name of the security scheme.
pub(super) const KEY: &str = "key";
/// The name of the field that carries a file.
const FILE: &str = crate::create::IMAGE_FIELD;
/// What such a file may be.
const IMAGE_TYPES: &str = "image/png, image/jpeg, image/webp";

/// An operation in the making.
pub(super) struct Making {
    method: HttpMethod,
    operation: OperationBuilder,
}

/// A header of an answer: its name, what it says, and whether that is a number.
pub(super) struct Told(
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) Type,
);

impl Making {
    /// An operation that asks for a key where there are some.
    pub(super) fn new(method: HttpMethod, tag: &str, id: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new()
            .tag(tag)
            .operation_id(Some(id))
            .summary(Some(summary))
            .security(SecurityRequirement::new(KEY, [] as [&str; 0]))
            .security(SecurityRequirement::default());
        Self { method, operation }
    }

    /// An operation that never asks for a key.
    pub(super) fn open(method: HttpMethod, tag: &str, id: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new()
            .tag(tag)
            .operation_id(Some(id))
            .summary(Some(summary))
            .securities(Some([]));
        Self { method, operation }
    }

    pub(super) fn about(self, description: &str) -> Self {
        self.map(|operation| operation.description(Some(description)))
    }

    pub(super) fn path(self, name: &str, about: &str, schema: Object) -> Self {
        self.parameter(ParameterIn::Path, name, about, schema)
    }

    pub(super) fn query(self, name: &str, about: &str, schema: Object) -> Self {
        self.parameter(ParameterIn::Query, name, about, schema)
    }

    pub(super) fn header(self, name: &str, about: &str, schema: Object) -> Self {
        self.parameter(ParameterIn::Header, name, about, schema)
    }

    fn parameter(self, place: ParameterIn, name: &str, about: &str, schema: Object) -> Self {
        let required = match place {
            ParameterIn::Path => Required::True,
            _ => Required::False,
        };
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(Some(about))
            .schema(Some(Schema::Object(schema)));
        self.map(|operation| operation.parameter(parameter))
    }

    /// A body that is JSON or a form.
    pub(super) fn json_or_form(self, schema: &str) -> Self {
        let form = format!("{schema}Form");
        let mut content = ContentBuilder::new().schema(Some(Ref::from_schema_name(form)));
        if schema == "CreateVideo" {
            let mut encoding = Encoding::default();
            encoding.content_type = Some(IMAGE_TYPES.into());
            content = content.encoding(FILE, encoding);
        }
        let body = RequestBodyBuilder::new()
            .required(Some(Required::True))
            .content("application/json", of_schema(schema))
            .content("multipart/form-data", content);
        self.map(|operation| operation.request_body(Some(body.build())))
    }

    /// A body that is JSON.
    pub(super) fn json(self, schema: Object, required: bool) -> Self {
        let body = RequestBodyBuilder::new()
            .required(Some(match required {
                true => Required::True,
                false => Required::False,
            }))
            .content(
                "application/json",
                ContentBuilder::new().schema(Some(Schema::Object(schema))),
            );
        self.map(|operation| operation.request_body(Some(body.build())))
    }

    /// Answers with a JSON object.
    pub(super) fn answers<T: ToSchema>(self, status: u16, about: &str, headers: &[Told]) -> Self {
        let content = of_schema(&T::name());
        let response = ResponseBuilder::new().content("application/json", content);
        self.response(status, about, response, headers)
    }

    /// Answers with a video object, from which it goes on.
    pub(super) fn answers_video(self, headers: &[Told]) -> Self {
        let mut response =
            ResponseBuilder::new().content("application/json", of_schema("VideoObject"));
        for operation in [
            "getVideo",
            "getVideoContent",
            "cancelVideo",
            "remixVideo",
            "deleteVideo",
        ] {
            let link = Link::builder()
                .operation_id(operation)
                .parameter("id", "$response.body#/id");
            response = response.link(operation, link.build());
        }
        self.response(200, "The video object.", response, headers)
    }

    /// Answers with text or bytes of these types.
    pub(super) fn sends(self, status: u16, about: &str, types: &[&str], headers: &[Told]) -> Self {
        let mut response = ResponseBuilder::new();
        for content_type in types {
            let text = ObjectBuilder::new().schema_type(Type::String);
            let content = match content_type.starts_with("text/") {
                true => ContentBuilder::new().schema(Some(text)),
                // Bytes have no schema.
                false => ContentBuilder::new(),
            };
            response = response.content(*content_type, content.build());
        }
        self.response(status, about, response, headers)
    }

    /// Answers with server-sent events; each carries one of these objects as JSON.
    pub(super) fn streams(self, about: &str, names: &[&str], data: &[&str]) -> Self {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let objects = data.iter().fold(OneOfBuilder::new(), |objects, name| {
            objects.item(Ref::from_schema_name(*name))
        });
        let data = text()
            .content_media_type("application/json")
            .content_schema(Some(Schema::OneOf(objects.build())));
        let event = ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("id", text().pattern(Some("^[0-9]+$")))
            .property("event", one_of(names.iter().copied()))
            .property("data", data)
            .required("id")
            .required("event")
            .required("data")
            .description(Some("One event of the stream."));
        let content = ContentBuilder::new().schema(Some(event)).build();
        let response = ResponseBuilder::new().content("text/event-stream", content);
        self.response(200, about, response, &[])
    }

    fn response(
        self,
        status: u16,
        about: &str,
        response: ResponseBuilder,
        headers: &[Told],
    ) -> Self {
        let add = |response: ResponseBuilder, Told(name, about, kind): &Told| {
            let schema = Schema::Object(Object::with_type(kind.clone()));
            let header = HeaderBuilder::new()
                .schema(Some(schema))
                .description(Some(*about));
            response.header(*name, header.build())
        };
        let response = headers.iter().fold(response.description(about), add);
        self.map(|operation| operation.response(status.to_string(), response.build()))
    }

    /// What can go wrong, by status.
    pub(super) fn errors(self, statuses: &[u16]) -> Self {
        let add = |operation: OperationBuilder, status: &u16| {
            let reference = Ref::from_response_name(error_name(*status));
            operation.response(status.to_string(), RefOr::Ref(reference))
        };
        self.map(|operation| statuses.iter().fold(operation, add))
    }

    fn map(self, change: impl FnOnce(OperationBuilder) -> OperationBuilder) -> Self {
        Self {
            operation: change(self.operation),
            ..self
        }
    }
}

/// The operations of one path.
pub(super) fn item(operations: impl IntoIterator<Item = Making>) -> PathItem {
    let add = |item: PathItemBuilder, made: Making| {
        let operation: Operation = made.operation.build();
        item.operation(made.method, operation)
    };
    operations
        .into_iter()
        .fold(PathItemBuilder::new(), add)
        .build()
}

/// The responses that operations refer to, by name.
pub(super) fn error_responses() -> impl Iterator<Item = (String, Response)> {
    ERRORS.iter().map(|error| {
        let codes: Vec<String> = error.codes.iter().map(|code| format!("`{code}`")).collect();
        let mut response = ResponseBuilder::new()
            .description(format!("{}. `code`: {}.", error.meaning, codes.join(", ")))
            .content("application/json", of_schema("ErrorBody"));
        for (name, about) in error.headers {
            let text = Schema::Object(Object::with_type(Type::String));
            let header = HeaderBuilder::new()
                .schema(Some(text))
                .description(Some(*about));
            response = response.header(*name, header.build());
        }
        (error_name(error.status), response.build())
    })
}

fn error_name(status: u16) -> String {
    format!("Error{status}")
}

fn of_schema(name: &str) -> utoipa::openapi::Content {
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(name)))
        .build()
}
