//! `keys.toml`: one `[[keys]]` table for each key, every field known, of its type and in its range.

use crate::key::{self, Key, KeyDigest, WebhookSecret};
use crate::{KEYS_MAX, moment};
use reel_domain::{Priority, TenantName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use toml::value::Datetime;

/// What the file begins with.
const HEADING: &str = "\
# API keys. Written by `reel key create` and `reel key revoke`, which keep no comments; a running server follows it.
# A key itself is not here, only the SHA-256 of its secret. A webhook_secret is: keep this file to its owner.
";
/// How alike an unknown field must be to a known one to be suggested (Jaro-Winkler, 0 to 1).
const SUGGESTION_LIKENESS: f64 = 0.7;

/// Every key, by its id.
pub(crate) type Keys = BTreeMap<String, Key>;

/// The whole file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile {
    #[serde(default)]
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: String,
    sha256: String,
    tenant: String,
    created: Datetime,
    expires: Option<Datetime>,
    revoked: Option<Datetime>,
    #[serde(default)]
    admin: bool,
    rate_per_minute: Option<NonZeroU32>,
    unfinished_jobs_max: Option<NonZeroU32>,
    priority_max: Option<String>,
    callback_url: Option<String>,
    webhook_secret: Option<String>,
    note: Option<String>,
}

/// Reads the file's text.
///
/// # Errors
/// What is wrong, where, and perhaps what was meant.
pub(crate) fn parse(text: &str) -> Result<Keys, String> {
    let file: StoredFile = toml::from_str(text).map_err(|error| explained(&error, text))?;
    if file.keys.len() > KEYS_MAX {
        return Err(format!(
            "{} keys; at most {KEYS_MAX} are read",
            file.keys.len()
        ));
    }
    let mut keys = Keys::new();
    for (number, stored) in (1..).zip(file.keys) {
        let key = stored
            .read()
            .map_err(|reason| format!("key {number}: {reason}"))?;
        if let Some(twice) = keys.insert(key.id.clone(), key) {
            return Err(format!("key {number}: the id {} is there twice", twice.id));
        }
    }
    Ok(keys)
}

/// The text of the file, oldest key first.
pub(crate) fn render(keys: &Keys) -> Result<String, String> {
    let mut sorted: Vec<&Key> = keys.values().collect();
    sorted.sort_by_key(|key| key.created_ms);
    let stored: Option<Vec<_>> = sorted.into_iter().map(StoredKey::of).collect();
    let keys = stored.ok_or("a time cannot be written")?;
    let tables = toml::to_string(&StoredFile { keys }).map_err(|error| error.to_string())?;
    Ok(format!("{HEADING}\n{tables}"))
}

impl StoredKey {
    fn of(key: &Key) -> Option<Self> {
        let moment = |at_ms: Option<u64>| match at_ms {
            Some(at_ms) => moment::to_datetime(at_ms).map(Some),
            None => Some(None),
        };
        Some(Self {
            id: key.id.clone(),
            sha256: key.sha256.to_hex(),
            tenant: key.tenant.to_string(),
            created: moment::to_datetime(key.created_ms)?,
            expires: moment(key.expires_ms)?,
            revoked: moment(key.revoked_ms)?,
            admin: key.admin,
            rate_per_minute: key.rate_per_minute,
            unfinished_jobs_max: key.unfinished_jobs_max,
            priority_max: key.priority_max.map(|priority| priority.to_string()),
            callback_url: key.callback_url.clone(),
            webhook_secret: key
                .webhook_secret
                .as_ref()
                .map(|secret| secret.expose().to_owned()),
            note: key.note.clone(),
        })
    }

    fn read(self) -> Result<Key, String> {
        if !key::is_id(&self.id) {
            return Err(format!("id `{}` is not 12 digits of 0-9 and a-f", self.id));
        }
        let sha256 = KeyDigest::from_hex(&self.sha256)
            .ok_or_else(|| format!("sha256 of {} is not 64 hexadecimal digits", self.id))?;
        let tenant: TenantName = self.tenant.parse().map_err(text)?;
        let priority_max: Option<Priority> = self
            .priority_max
            .map(|name| name.parse().map_err(text))
            .transpose()?;
        let moment = |at: Option<Datetime>| at.as_ref().map(moment::from_datetime).transpose();
        Ok(Key {
            sha256,
            tenant,
            created_ms: moment::from_datetime(&self.created)?,
            expires_ms: moment(self.expires)?,
            revoked_ms: moment(self.revoked)?,
            admin: self.admin,
            rate_per_minute: self.rate_per_minute,
            unfinished_jobs_max: self.unfinished_jobs_max,
            priority_max,
            callback_url: self.callback_url,
            webhook_secret: self.webhook_secret.map(WebhookSecret::new),
            note: self.note,
            id: self.id,
        })
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

/// The parser's words with the number of the line but not the line, which may hold a secret, and perhaps what was meant.
fn explained(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = match before {
        Some(before) => format!("line {}: ", before.matches('\n').count() + 1),
        None => String::new(),
    };
    match suggestion(message) {
        Some(meant) => format!("{line}{message}; did you mean `{meant}`?"),
        None => format!("{line}{message}"),
    }
}

/// The known field that an unknown one resembles, from the parser's own list of what it expected.
fn suggestion(message: &str) -> Option<&str> {
    let (unknown, expected) = message
        .strip_prefix("unknown field `")?
        .split_once("`, expected ")?;
    expected
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .filter(|(likeness, _)| *likeness >= SUGGESTION_LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn table(id: &str, more: &str) -> String {
        format!(
            "[[keys]]\nid = \"{id}\"\nsha256 = \"{SHA}\"\ntenant = \"acme\"\n\
             created = 2026-01-31T12:00:00Z\n{more}\n"
        )
    }

    #[track_caller]
    fn assert_refused(file: &str, part: &str) {
        let error = parse(file).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn every_field_survives_the_file() {
        let more = "expires = 2027-01-31T12:00:00Z\nrevoked = 2026-02-01T00:00:00Z\nadmin = true\n\
            rate_per_minute = 60\nunfinished_jobs_max = 8\npriority_max = \"batch\"\n\
            callback_url = \"https://example.com/hook\"\nwebhook_secret = \"whsec_x\"\nnote = \"CI\"";
        let keys = parse(&table("0123456789ab", more)).unwrap();
        let key = &keys["0123456789ab"];
        assert_eq!(key.tenant.as_str(), "acme");
        assert_eq!(key.priority_max, Some(Priority::Batch));
        assert_eq!(key.rate_per_minute.unwrap().get(), 60);
        assert_eq!(key.webhook_secret.as_ref().unwrap().expose(), "whsec_x");
        assert!(key.admin && key.revoked_ms < key.expires_ms);
        assert_eq!(parse(&render(&keys).unwrap()).unwrap(), keys);
    }

    #[test]
    fn a_key_needs_no_more_than_four_fields() {
        let keys = parse(&table("0123456789ab", "")).unwrap();
        assert_eq!(parse(&render(&keys).unwrap()).unwrap(), keys);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_name_and_a_suggestion() {
        let file = table("0123456789ab", "rate_per_minite = 60");
        assert_refused(&file, "line 6: unknown field `rate_per_minite`");
        assert_refused(&file, "did you mean `rate_per_minute`?");
        assert!(!parse("[x]\n").unwrap_err().contains("did you mean"));
    }

    #[test]
    fn two_keys_of_one_id_are_refused() {
        let file = table("0123456789ab", "") + &table("0123456789ab", "");
        assert_refused(&file, "key 2: the id 0123456789ab is there twice");
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_refused(&table("0123456789AB", ""), "0123456789AB");
        assert_refused(&table("0123456789ab", "rate_per_minute = 0"), "nonzero");
        assert_refused(
            &table("0123456789ab", "priority_max = \"urgent\""),
            "`urgent` is not a priority",
        );
        assert_refused(
            &table("0123456789ab", "expires = 2026-01-31"),
            "2026-01-31T12:00:00Z".split('T').next().unwrap(),
        );
        assert_refused(
            &table("0123456789ab", "").replace("acme", "a b"),
            "`a b` is not a tenant name",
        );
        assert_refused(&table("0123456789ab", "").replace(SHA, "12"), "sha256");
    }

    #[test]
    fn an_error_never_repeats_the_line_which_may_hold_a_secret() {
        let error = parse(&table("0123456789ab", "webhook_secret = \"whsec_hush")).unwrap_err();
        assert!(!error.contains("hush"), "{error}");
    }
}
