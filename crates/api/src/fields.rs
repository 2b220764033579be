//! Named values from JSON, a form or a query, taken one by one with their types.

use crate::invalid::{Invalid, quoted};
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Most fields that a request may have, known or not.
const FIELDS_MAX: usize = 64;

/// The fields of one request. Each name occurs once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fields {
    entries: Vec<(String, Field)>,
}

/// A text that stands for something: by itself, or as the named member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    Text(String),
    Member(String, String),
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    /// Typed by its sender.
    Json(Value),
    /// Text that may stand for a number.
    Text(String),
}

impl Fields {
    /// The members of a JSON object. `null` counts as absent, but its name must be known like any other.
    ///
    /// # Errors
    /// When the bytes are not one JSON object, or a name occurs twice.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut parser = serde_json::Deserializer::from_slice(bytes);
        let members = (&mut parser)
            .deserialize_any(Members)
            .and_then(|members| parser.end().map(|()| members))
            .map_err(|error| Invalid::body(format!("the body is not a JSON object: {error}")))?;
        Self::unique(
            members
                .into_iter()
                .map(|(name, value)| (name, Field::Json(value))),
        )
    }

    /// The text fields of a form or a query.
    ///
    /// # Errors
    /// When a name occurs twice.
    pub fn from_text(pairs: Vec<(String, String)>) -> Result<Self, Invalid> {
        Self::unique(
            pairs
                .into_iter()
                .map(|(name, text)| (name, Field::Text(text))),
        )
    }

    fn unique(entries: impl Iterator<Item = (String, Field)>) -> Result<Self, Invalid> {
        let mut unique: Vec<(String, Field)> = Vec::new();
        for (name, field) in entries {
            if unique.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Invalid::duplicate(&name));
            }
            if unique.len() == FIELDS_MAX {
                let message = format!("more than {FIELDS_MAX} parameters are given");
                return Err(Invalid::body(message));
            }
            unique.push((name, field));
        }
        Ok(Self { entries: unique })
    }

    /// # Errors
    /// When there is a field that is not in `known`.
    pub(crate) fn refuse_unknown(&self, known: &[&str]) -> Result<(), Invalid> {
        let mut names = self.entries.iter().map(|(name, _)| name.as_str());
        // What is in brackets is looked at by whoever reads what is before them.
        let is_known = |name: &&str| {
            let base = name.split_once('[').map_or(*name, |(base, _)| base);
            known.contains(name) || known.contains(&base) && name.ends_with(']')
        };
        match names.find(|name| !is_known(name)) {
            Some(name) => Err(Invalid::unknown(name, known)),
            None => Ok(()),
        }
    }

    /// # Errors
    /// When something is left that nobody has read: what is in brackets behind a name that takes none, or is said twice.
    pub(crate) fn refuse_rest(&self, known: &[&str]) -> Result<(), Invalid> {
        match self.entries.first() {
            Some((name, _)) => Err(Invalid::unknown(name, known)),
            None => Ok(()),
        }
    }

    /// What makes two requests the same one: every field, in the order of the names, in one way to write it.
    #[must_use]
    pub fn canonical(&self) -> String {
        let present = self.entries.iter().filter(|(_, field)| !field.is_null());
        let mut lines: Vec<String> = present
            .map(|(name, field)| match field {
                Field::Text(text) | Field::Json(Value::String(text)) => {
                    format!("{name:?}={text:?}")
                }
                Field::Json(value) => format!("{name:?}={:?}", value.to_string()),
            })
            .collect();
        lines.sort_unstable();
        lines.join("\n")
    }

    /// A field that is an object with one text in it (`{"id": "…"}`, in a form `video[id]`), or a text.
    pub(crate) fn reference(
        &mut self,
        name: &str,
        known: &[&str],
    ) -> Result<Option<Reference>, Invalid> {
        match self.take(name) {
            Some(Field::Text(text) | Field::Json(Value::String(text))) => {
                Ok(Some(Reference::Text(text)))
            }
            Some(Field::Json(Value::Object(members))) => {
                let members = members.into_iter();
                let members = members.map(|(name, value)| (name, Field::Json(value)));
                Self::unique(members)?.single(name, known).map(Some)
            }
            Some(Field::Json(_)) => Err(Invalid::wrong_type(name, "an object or a string")),
            None => {
                let inside = self.take_inside(name);
                match inside.entries.iter().all(|(_, field)| field.is_null()) {
                    true => Ok(None),
                    false => inside.single(name, known).map(Some),
                }
            }
        }
    }

    /// The form's fields `name[…]`, without that.
    fn take_inside(&mut self, name: &str) -> Self {
        let inside = |entry: &str| {
            let member = entry
                .strip_prefix(name)?
                .strip_prefix('[')?
                .strip_suffix(']')?;
            Some(member.to_owned())
        };
        let (taken, left) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|(entry, _)| inside(entry).is_some());
        self.entries = left;
        let named = |(entry, field): (String, Field)| (inside(&entry).unwrap_or_default(), field);
        let taken: Vec<(String, Field)> = taken;
        Self {
            entries: taken.into_iter().map(named).collect(),
        }
    }

    fn single(mut self, name: &str, known: &[&str]) -> Result<Reference, Invalid> {
        let mut members = self.entries.iter().map(|(member, _)| member);
        if let Some(alien) = members.find(|member| !known.contains(&member.as_str())) {
            let message = format!(
                "`{name}` has no member `{}`; it has {}",
                quoted(alien),
                known.join(", ")
            );
            return Err(Invalid::value(name, message));
        }
        self.entries.retain(|(_, field)| !field.is_null());
        let [(member, _)] = self.entries.as_slice() else {
            let message = format!(
                "`{name}` must be an object with exactly one of {}",
                known.join(", ")
            );
            return Err(Invalid::value(name, message));
        };
        let member = member.clone();
        match self.text(&member) {
            Ok(Some(text)) => Ok(Reference::Member(member, text)),
            _ => Err(Invalid::wrong_type(
                name,
                "an object whose member is a string",
            )),
        }
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Field::Text(text) | Field::Json(Value::String(text))) => Ok(Some(text)),
            Some(Field::Json(_)) => Err(Invalid::wrong_type(name, "a string")),
        }
    }

    /// A whole number from 0.
    pub(crate) fn whole(&mut self, name: &str) -> Result<Option<u64>, Invalid> {
        let number = match self.take(name) {
            None => return Ok(None),
            Some(Field::Text(text)) => text.parse().ok(),
            Some(Field::Json(value)) => value.as_u64(),
        };
        number
            .map(Some)
            .ok_or_else(|| Invalid::wrong_type(name, "a whole number, 0 or more"))
    }

    /// A number.
    pub(crate) fn real(&mut self, name: &str) -> Result<Option<f64>, Invalid> {
        let number = match self.take(name) {
            None => return Ok(None),
            Some(Field::Text(text)) => text.parse().ok(),
            Some(Field::Json(value)) => value.as_f64(),
        };
        number
            .filter(|number: &f64| number.is_finite())
            .map(Some)
            .ok_or_else(|| Invalid::wrong_type(name, "a number"))
    }

    /// A number that OpenAI's clients send as a string (`"seconds": "4"`).
    pub(crate) fn real_or_text(&mut self, name: &str) -> Result<Option<f64>, Invalid> {
        if let Some((_, field)) = self.entries.iter_mut().find(|(entry, _)| entry == name)
            && let Field::Json(Value::String(text)) = field
        {
            *field = Field::Text(std::mem::take(text));
        }
        self.real(name)
    }

    fn take(&mut self, name: &str) -> Option<Field> {
        let index = self.entries.iter().position(|(entry, _)| entry == name)?;
        Some(self.entries.swap_remove(index).1).filter(|field| !field.is_null())
    }
}

impl Field {
    const fn is_null(&self) -> bool {
        matches!(self, Self::Json(Value::Null))
    }
}

/// Collects the members of an object as they stand, twins included.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(members)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let text = quoted(text);
        Err(E::invalid_type(serde::de::Unexpected::Str(&text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_given_twice_is_refused() {
        let invalid = Fields::from_json(br#"{"seed": 1, "seed": 2}"#).unwrap_err();
        assert_eq!(invalid.param.as_deref(), Some("seed"));
        let pair = ("seed".to_owned(), "1".to_owned());
        assert!(Fields::from_text(vec![pair.clone(), pair]).is_err());
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for body in [&b""[..], b"[]", b"\"x\"", b"{} {}", b"{\"a\":", b"\xff"] {
            assert!(Fields::from_json(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn an_object_of_json_is_brackets_in_a_form() {
        let known = ["id"];
        let expected = Ok(Some(Reference::Member("id".into(), "x".into())));
        let mut json = Fields::from_json(br#"{"video": {"id": "x"}}"#).unwrap();
        assert_eq!(json.reference("video", &known), expected);
        let mut form = Fields::from_text(vec![("video[id]".into(), "x".into())]).unwrap();
        assert_eq!(form.refuse_unknown(&["video"]), Ok(()));
        assert_eq!(form.reference("video", &known), expected);
        for body in [
            r#"{"video": {"id": "x", "url": "y"}}"#,
            r#"{"video": {}}"#,
            r#"{"video": {"url": "y"}}"#,
            r#"{"video": {"id": 1}}"#,
            r#"{"video": 1}"#,
        ] {
            let mut json = Fields::from_json(body.as_bytes()).unwrap();
            assert!(json.reference("video", &known).is_err(), "{body}");
        }
    }

    #[test]
    fn the_order_and_the_encoding_of_a_request_do_not_make_it_another_one() {
        let canonical = |body: &[u8]| Fields::from_json(body).unwrap().canonical();
        let one = canonical(br#"{"seed": 1, "prompt": "a"}"#);
        assert_eq!(one, canonical(br#"{ "prompt":"a","seed":1, "fps": null }"#));
        let pairs = [("prompt", "a"), ("seed", "1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let form = Fields::from_text(pairs.to_vec()).unwrap();
        assert_eq!(one, form.canonical());
        assert_ne!(one, canonical(br#"{"seed": 1, "prompt": "b"}"#));
        assert_ne!(
            canonical(br#"{"prompt": "a\"\n\"seed\"=\"1"}"#),
            one,
            "a text cannot pretend to be another field"
        );
    }

    #[test]
    fn null_counts_as_absent() {
        let body = br#"{"seed": null, "video": {"id": "x", "url": null}}"#;
        let mut fields = Fields::from_json(body).unwrap();
        assert_eq!(fields.whole("seed"), Ok(None));
        let expected = Ok(Some(Reference::Member("id".into(), "x".into())));
        assert_eq!(fields.reference("video", &["id", "url"]), expected);
    }

    #[test]
    fn a_name_that_nobody_knows_is_refused_with_null_too() {
        let mut fields =
            Fields::from_json(br#"{"sed": null, "video": {"x": null, "id": "x"}}"#).unwrap();
        assert!(fields.refuse_unknown(&["seed", "video"]).is_err());
        assert!(fields.reference("video", &["id"]).is_err());
        assert!(Fields::from_json(br#"{"seed": null, "seed": 2}"#).is_err());
    }

    #[test]
    fn json_keeps_its_types_and_forms_read_numbers_from_text() {
        let mut json = Fields::from_json(br#"{"seed": "1", "size": 3}"#).unwrap();
        assert!(json.whole("seed").is_err() && json.text("size").is_err());
        let mut form = Fields::from_text(vec![("seed".into(), "1".into())]).unwrap();
        assert_eq!(form.whole("seed"), Ok(Some(1)));
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for text in ["NaN", "inf", "1e999", "", "x"] {
            let mut form = Fields::from_text(vec![("x".into(), text.into())]).unwrap();
            assert!(form.real("x").is_err(), "{text}");
        }
    }
}
