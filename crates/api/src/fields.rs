//! Named values from JSON, a form or a query, taken one by one with their types.

use crate::invalid::{Invalid, quoted};
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Most fields that a request may have, known or not.
const FIELDS_MAX: usize = 64;

/// The fields of one request. Each name occurs once.
#[derive(Debug, Clone, PartialEq)]
pub struct Fields {
    entries: Vec<(String, Field)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    /// Typed by its sender.
    Json(Value),
    /// Text that may stand for a number.
    Text(String),
}

impl Fields {
    /// The members of a JSON object. `null` counts as absent.
    ///
    /// # Errors
    /// When the bytes are not one JSON object, or a name occurs twice.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut parser = serde_json::Deserializer::from_slice(bytes);
        let members = (&mut parser)
            .deserialize_any(Members)
            .and_then(|members| parser.end().map(|()| members))
            .map_err(|error| Invalid::body(format!("the body is not a JSON object: {error}")))?;
        let present = members.into_iter().filter(|(_, value)| !value.is_null());
        Self::unique(present.map(|(name, value)| (name, Field::Json(value))))
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
        match names.find(|name| !known.contains(name)) {
            Some(name) => Err(Invalid::unknown(name, known)),
            None => Ok(()),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.iter().any(|(entry, _)| entry == name)
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
        Some(self.entries.swap_remove(index).1)
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
    fn null_counts_as_absent() {
        let mut fields = Fields::from_json(br#"{"seed": null}"#).unwrap();
        assert_eq!(fields.whole("seed"), Ok(None));
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
