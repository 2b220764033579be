//! What clients may send, as schemas. The parsers read field by field, so that they can name what is wrong; here is the
//! same once more for people and tools, held to the parsers by the tests below.

use super::names::one_of;
use reel_domain::limits::{
    BEGIN_WITHIN_S_MAX, CALLBACK_URL_BYTES_MAX, FPS_MAX, FPS_MIN, FRAMES_MAX, GUIDANCE_MAX,
    GUIDANCE_MIN, MODEL_NAME_BYTES_MAX, PROMPT_CHARS_MAX, SEED_MAX, STEPS_MAX, STEPS_MIN,
};
use utoipa::Number;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AdditionalProperties, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, SchemaType,
    Type,
};

/// A video's id, as a regular expression.
pub(super) const VIDEO_ID: &str = "^video_[0-9a-f]{32}$";
/// A text that says something.
const SAYS_SOMETHING: &str = r"\S";
/// OpenAI's clients send seconds as text.
const SECONDS_TEXT: &str = r"^[0-9]+(\.[0-9]+)?$";

/// One field of a request.
struct Field {
    name: &'static str,
    about: String,
    schema: Schema,
    required: bool,
}

/// `CreateVideo`.
pub(super) fn create() -> Object {
    let image = "The first frame: in a form a file (PNG, JPEG or WebP, upright by EXIF, cut around its centre to the \
        aspect of the shape), else a data URL, or a URL that the server's operator allows.";
    let mut fields = vec![prompt("What to show."), model(), size()];
    fields.extend(length());
    fields.push(optional(
        "fps",
        "Frames per second; missing: the model card's.",
        whole(FPS_MIN, FPS_MAX),
    ));
    fields.extend(sampling("the model card's"));
    fields.push(priority("`interactive`"));
    fields.push(optional(
        "batch",
        "`never`: this video is computed by itself; missing: `auto`.",
        one_of(["auto", "never"]),
    ));
    fields.push(optional(
        "begin_within_s",
        "Seconds; a video that no worker has begun by then fails with `deadline_exceeded`. Missing: no limit.",
        whole(1_u32, BEGIN_WITHIN_S_MAX),
    ));
    fields.push(callback());
    fields.push(Field {
        schema: reference("image_url", image_url()),
        ..optional(crate::create::IMAGE_FIELD, image, Object::new())
    });
    strict(fields)
}

/// `ExtendVideo`.
pub(super) fn extend() -> Object {
    let mut fields = vec![
        prompt("What to show from there on."),
        Field {
            required: true,
            schema: reference("id", text().pattern(Some(VIDEO_ID)).build()),
            ..optional(
                crate::extension::VIDEO_FIELD,
                "The completed video to go on from.",
                Object::new(),
            )
        },
    ];
    fields.extend(length());
    fields.extend(sampling("as for the earlier video, the seed excepted"));
    fields.push(priority("as for the earlier video"));
    fields.push(callback());
    strict(fields)
}

/// `RemixVideo`.
pub(super) fn remix() -> Object {
    strict(vec![prompt("What to show instead."), callback()])
}

/// A command of the pool with one text.
pub(super) fn command(name: &'static str, about: &str, required: bool) -> Object {
    let text = text().build();
    strict(vec![Field {
        required,
        ..optional(name, about, text)
    }])
}

/// A command of the pool without anything to say.
pub(super) fn empty() -> Object {
    strict(Vec::new())
}

/// The same request as a form: everything is text but its files, and nothing is null.
pub(super) fn form(json: &Object) -> Object {
    let mut form = json.clone();
    for (name, property) in &mut form.properties {
        let RefOr::T(schema) = property else { continue };
        let flat = match schema {
            Schema::Object(object) => not_null(object.clone()),
            _ => match name.as_str() {
                "seconds" => not_null(seconds_text().description(described(schema)).build()),
                crate::create::IMAGE_FIELD => ObjectBuilder::new()
                    .schema_type(Type::String)
                    .format(Some(SchemaFormat::KnownFormat(
                        utoipa::openapi::KnownFormat::Binary,
                    )))
                    .description(described(schema))
                    .build(),
                _ => text()
                    .pattern(Some(VIDEO_ID))
                    .description(described(schema))
                    .build(),
            },
        };
        *schema = Schema::Object(flat);
    }
    form
}

fn described(schema: &Schema) -> Option<String> {
    match schema {
        Schema::OneOf(one_of) => one_of.description.clone(),
        _ => None,
    }
}

fn prompt(about: &str) -> Field {
    let text = text()
        .min_length(Some(1))
        .max_length(Some(PROMPT_CHARS_MAX))
        .pattern(Some(SAYS_SOMETHING));
    Field {
        required: true,
        ..optional("prompt", about, text.build())
    }
}

fn model() -> Field {
    let name = text().max_length(Some(MODEL_NAME_BYTES_MAX));
    optional(
        "model",
        "The model, by name; missing: the first one of the server.",
        name.build(),
    )
}

fn size() -> Field {
    let about = "Width and height of a shape on the model's menu; missing: the default shape's, or the first that fits the rest.";
    let size = text().pattern(Some("^[0-9]+x[0-9]+$")).examples(["64x64"]);
    optional("size", about, size.build())
}

fn length() -> [Field; 2] {
    let seconds = ObjectBuilder::new()
        .schema_type(Type::Number)
        .exclusive_minimum(Some(0_u32));
    let about = "How long, in seconds: a shape of the menu with that number of frames, or one more. Excludes `num_frames`.";
    let either = OneOfBuilder::new()
        .item(seconds)
        .item(seconds_text())
        .item(null());
    [
        Field {
            schema: Schema::OneOf(either.description(Some(about)).build()),
            ..optional("seconds", about, Object::new())
        },
        optional(
            "num_frames",
            "How long, in frames. Excludes `seconds`.",
            whole(1_u32, FRAMES_MAX),
        ),
    ]
}

fn sampling(missing: &str) -> [Field; 4] {
    let about = |what: &str| format!("{what}; missing: {missing}.");
    [
        optional(
            "seed",
            "Seed of the noise; missing: drawn, and shown.",
            whole(0_u32, SEED_MAX),
        ),
        optional(
            "num_inference_steps",
            &about("Denoising steps"),
            whole(STEPS_MIN, STEPS_MAX),
        ),
        optional(
            "guidance_scale",
            &about("Classifier-free guidance"),
            ObjectBuilder::new()
                .schema_type(Type::Number)
                .minimum(Some(GUIDANCE_MIN))
                .maximum(Some(GUIDANCE_MAX))
                .build(),
        ),
        optional(
            "negative_prompt",
            &about("What to steer away from"),
            text().max_length(Some(PROMPT_CHARS_MAX)).build(),
        ),
    ]
}

fn priority(missing: &str) -> Field {
    let about = format!("How urgent it is; missing: {missing}.");
    optional("priority", &about, one_of(["interactive", "batch"]))
}

fn callback() -> Field {
    let url = text()
        .pattern(Some("^https?://[!-~]+$"))
        .max_length(Some(CALLBACK_URL_BYTES_MAX));
    let about = "Where the end of the job is told, signed, at least once; missing: where the key says, or nowhere.";
    optional("callback_url", about, url.build())
}

fn image_url() -> Object {
    text().pattern(Some("^(https?://|data:)")).build()
}

/// A text, an object with that text in it, or nothing.
fn reference(member: &str, text: Object) -> Schema {
    let object = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property(member, Schema::Object(text.clone()))
        .required(member)
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    let either = OneOfBuilder::new().item(text).item(object);
    Schema::OneOf(match member {
        "id" => either.build(),
        _ => either.item(null()).build(),
    })
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn seconds_text() -> ObjectBuilder {
    text().pattern(Some(SECONDS_TEXT))
}

fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

fn whole(min: impl Into<Number>, max: impl Into<Number>) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(min))
        .maximum(Some(max))
        .build()
}

fn optional(name: &'static str, about: &str, object: Object) -> Field {
    Field {
        name,
        about: about.into(),
        schema: Schema::Object(object),
        required: false,
    }
}

/// An object of these fields and no others; what is not required may be null.
fn strict(fields: Vec<Field>) -> Object {
    let object = ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    let add = |object: ObjectBuilder, field: Field| {
        let schema = match field.schema {
            Schema::Object(mut schema) => {
                schema.description = Some(field.about);
                Schema::Object(match field.required {
                    true => schema,
                    false => nullable(schema),
                })
            }
            Schema::OneOf(mut schema) => {
                schema.description = Some(field.about);
                Schema::OneOf(schema)
            }
            schema => schema,
        };
        let object = object.property(field.name, schema);
        match field.required {
            true => object.required(field.name),
            false => object,
        }
    };
    fields.into_iter().fold(object, add).build()
}

fn nullable(mut object: Object) -> Object {
    if let SchemaType::Type(kind) = object.schema_type {
        object.schema_type = SchemaType::Array(vec![kind, Type::Null]);
    }
    if let Some(words) = &mut object.enum_values {
        words.push(serde_json::Value::Null);
    }
    object
}

fn not_null(mut object: Object) -> Object {
    if let SchemaType::Array(kinds) = &object.schema_type {
        object.schema_type = SchemaType::Type(kinds[0].clone());
    }
    if let Some(words) = &mut object.enum_values {
        words.retain(|word| !word.is_null());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CreateVideo, ExtendVideo, Fields, Invalid, RemixVideo};
    use serde_json::{Map, Value, json};

    fn names(object: &Object) -> Vec<&str> {
        let mut names: Vec<&str> = object.properties.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn sorted<const N: usize>(mut known: [&'static str; N]) -> Vec<&'static str> {
        known.sort_unstable();
        known.to_vec()
    }

    #[test]
    fn schemas_have_the_fields_that_the_parsers_know() {
        assert_eq!(names(&create()), sorted(crate::create::KNOWN));
        assert_eq!(names(&extend()), sorted(crate::extension::KNOWN));
        assert_eq!(names(&remix()), sorted(crate::remix::KNOWN));
        for schema in [create(), extend(), remix()] {
            assert_eq!(names(&form(&schema)), names(&schema));
        }
    }

    type Parser = fn(Fields) -> Result<(), Invalid>;

    /// Every request with a parser, its schema, and the least that it can be.
    fn requests() -> [(Object, Parser, Value); 3] {
        let video = "video_00000000000000000000000000000000";
        [
            (
                create(),
                |fields| CreateVideo::from_fields(fields).map(drop),
                json!({"prompt": "a"}),
            ),
            (
                extend(),
                |fields| ExtendVideo::from_fields(fields).map(drop),
                json!({"prompt": "a", "video": video}),
            ),
            (
                remix(),
                |fields| RemixVideo::from_fields(fields).map(drop),
                json!({"prompt": "a"}),
            ),
        ]
    }

    fn members(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn parsed(parse: Parser, members: &Map<String, Value>) -> Result<(), Invalid> {
        let body = serde_json::to_vec(members).unwrap();
        parse(Fields::from_json(&body).unwrap())
    }

    /// Values at the bounds of a schema, and values just outside.
    fn bounds(schema: &Value) -> (Vec<Value>, Vec<Value>) {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let step = |value: &Value, by: i64| match value.as_i64() {
            Some(whole) => whole.checked_add(by).map_or(json!(u64::MAX), Value::from),
            None => json!(value.as_f64().unwrap() + by as f64),
        };
        if let Some(min) = schema.get("minimum") {
            inside.push(min.clone());
            outside.push(step(min, -1));
        }
        if let Some(max) = schema.get("maximum") {
            inside.push(max.clone());
            outside.push(step(max, 1));
        }
        if let Some(words) = schema.get("enum") {
            inside.extend(words.as_array().unwrap().iter().cloned());
            outside.push(json!("neither"));
        }
        let max = |name: &str| Some(usize::try_from(schema.get(name)?.as_u64()?).unwrap());
        let begin = match schema["pattern"].as_str() {
            Some("^https?://[!-~]+$") => "https://",
            _ => "",
        };
        if let Some(max) = max("maxLength") {
            let long = |length: usize| json!(format!("{begin:a<length$}"));
            inside.push(long(max));
            outside.push(long(max + 1));
        }
        (inside, outside)
    }

    /// What the menu decides, and no number.
    const OF_THE_MENU: [&str; 2] = ["model", "num_frames"];

    #[test]
    fn parsers_take_what_is_at_the_bounds_of_the_schemas_and_refuse_what_is_outside() {
        for (schema, parse, least) in requests() {
            let schema = serde_json::to_value(&schema).unwrap();
            for (name, property) in schema["properties"].as_object().unwrap() {
                let (inside, outside) = bounds(property);
                let with = |value| {
                    let mut members = members(&least);
                    members.insert(name.clone(), value);
                    members
                };
                for value in inside {
                    assert_eq!(parsed(parse, &with(value)), Ok(()), "{name}");
                }
                if OF_THE_MENU.contains(&name.as_str()) {
                    continue;
                }
                for value in outside {
                    let refused = parsed(parse, &with(value)).unwrap_err();
                    assert_eq!(refused.param.as_deref(), Some(name.as_str()));
                }
            }
        }
    }

    #[test]
    fn what_the_schemas_require_the_parsers_miss() {
        for (schema, parse, least) in requests() {
            let required = schema.required.clone();
            assert_eq!(required.len(), members(&least).len());
            for name in required {
                let mut members = members(&least);
                members.remove(&name);
                let missing = parsed(parse, &members).unwrap_err();
                assert_eq!(missing.code, "missing_required_parameter", "{name}");
            }
        }
    }
}
