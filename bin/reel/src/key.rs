//! `reel key`: API keys of a data directory, with or without a server that runs on it.

use crate::SettingsArgs;
use crate::output::{new_table, say};
use clap::{Args, Subcommand};
use comfy_table::CellAlignment;
use reel_domain::{Priority, TenantName};
use reel_keys::{CreatedKey, Key, KeyFile, KeyRing, NewKey, WebhookSecret};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::Uri;

/// Makes, lists and revokes API keys, as they lie in DATA_DIR/keys.toml.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and print it, once
    Create(CreateArgs),
    /// All keys, without their secrets
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// End a key; a running server refuses it within a second or so
    Revoke {
        /// Which one, as `list` names it
        id: String,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Who asks with it: jobs of different tenants take turns
    #[arg(long, value_name = "NAME")]
    tenant: TenantName,
    /// Videos that may be asked for, like 60/min or 2/s [default: as many as the server takes]
    #[arg(long, value_parser = rate, value_name = "N/min")]
    rate: Option<NonZeroU32>,
    /// Jobs that may wait or run at once [default: as many as a tenant may have]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroU32>,
    /// The most urgent class: realtime, interactive or batch [default: any]
    #[arg(long, value_name = "CLASS")]
    priority_max: Option<Priority>,
    /// May also look at and change the pool
    #[arg(long)]
    admin: bool,
    /// When it ends: after a time like 90d or 12h, or on a day like 2030-01-31 (UTC) [default: never]
    #[arg(long, value_parser = expiry, value_name = "WHEN")]
    expires: Option<SystemTime>,
    /// Whatever should be remembered about it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Where the end of each job is reported; makes a secret to check the reports with
    #[arg(long, value_parser = webhook_url, value_name = "URL")]
    webhook_url: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run_command(args: KeyArgs) -> anyhow::Result<()> {
    match args.command {
        KeyCommand::Create(args) => create(args),
        KeyCommand::List { json, settings } => {
            let file = key_file(settings)?;
            let ring = file.list()?;
            warn_of_exposure(&ring);
            list(&file, &ring, json)
        }
        KeyCommand::Revoke { id, settings } => {
            let key = key_file(settings)?.revoke(&id, now_ms())?;
            Ok(say(format!("{} of {} is revoked", key.id, key.tenant))?)
        }
    }
}

fn key_file(settings: SettingsArgs) -> anyhow::Result<KeyFile> {
    Ok(KeyFile::of(&settings.load()?.paths.data_dir))
}

fn create(args: CreateArgs) -> anyhow::Result<()> {
    let file = key_file(args.settings)?;
    let new = NewKey {
        tenant: args.tenant,
        expires_ms: args.expires.map(unix_ms),
        admin: args.admin,
        rate_per_minute: args.rate,
        unfinished_jobs_max: args.jobs,
        priority_max: args.priority_max,
        callback_url: args.webhook_url,
        note: args.note,
    };
    let created = file.create(new, now_ms())?;
    match args.json {
        true => Ok(say(created_json(&created))?),
        false => tell(&created, &file),
    }
}

fn tell(created: &CreatedKey, file: &KeyFile) -> anyhow::Result<()> {
    let CreatedKey { key, text } = created;
    let webhook_secret = key.webhook_secret.as_ref().map(WebhookSecret::expose);
    let rows = [
        ("key", Some(text.clone())),
        ("webhook secret", webhook_secret.map(str::to_owned)),
        ("tenant", Some(key.tenant.to_string())),
        ("may", Some(limits(key))),
        ("webhook", key.callback_url.clone()),
        ("expires", Some(day(key.expires_ms, "never"))),
        ("note", key.note.clone()),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            say(format!("{name:<14}  {value}"))?;
        }
    }
    let place = file.path().display();
    Ok(say(format!(
        "\nThe key is not shown again: {place} has only its hash. Keep it now."
    ))?)
}

fn list(file: &KeyFile, ring: &KeyRing, json: bool) -> anyhow::Result<()> {
    let mut keys: Vec<&Key> = ring.keys().collect();
    keys.sort_by_key(|key| key.created_ms);
    if json {
        let keys: Vec<Value> = keys.into_iter().map(key_json).collect();
        return Ok(say(Value::from(keys))?);
    }
    if keys.is_empty() {
        let place = file.path().display();
        return Ok(say(format!(
            "there are no keys in {place}; `reel key create --tenant NAME` makes one"
        ))?);
    }
    let mut table = new_table(&[
        "key", "tenant", "state", "may", "created", "expires", "webhook", "note",
    ]);
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Left);
    }
    for key in keys {
        table.add_row([
            key.id.clone(),
            key.tenant.to_string(),
            state(key).into(),
            limits(key),
            day(Some(key.created_ms), ""),
            day(key.expires_ms, "never"),
            key.callback_url.clone().unwrap_or_default(),
            key.note.clone().unwrap_or_default(),
        ]);
    }
    Ok(say(table)?)
}

/// What a key may, in a few words.
fn limits(key: &Key) -> String {
    let parts = [
        key.admin.then(|| "admin".to_owned()),
        key.rate_per_minute.map(|rate| format!("{rate}/min")),
        key.unfinished_jobs_max.map(|jobs| format!("{jobs} jobs")),
        key.priority_max.map(|class| match class {
            Priority::Batch => class.to_string(),
            _ => format!("up to {class}"),
        }),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => "no limits of its own".into(),
        false => parts.join(", "),
    }
}

fn state(key: &Key) -> &'static str {
    match key.refusal(now_ms()) {
        Some(reel_keys::KeyError::Revoked) => "revoked",
        Some(_) => "expired",
        None => "active",
    }
}

fn key_json(key: &Key) -> Value {
    let seconds = |at_ms: Option<u64>| at_ms.map(|at_ms| at_ms / 1_000);
    json!({
        "id": key.id,
        "tenant": key.tenant.as_str(),
        "state": state(key),
        "admin": key.admin,
        "rate_per_minute": key.rate_per_minute,
        "unfinished_jobs_max": key.unfinished_jobs_max,
        "priority_max": key.priority_max.map(Priority::as_str),
        "callback_url": key.callback_url,
        "note": key.note,
        "created_at": key.created_ms / 1_000,
        "expires_at": seconds(key.expires_ms),
        "revoked_at": seconds(key.revoked_ms),
    })
}

fn created_json(created: &CreatedKey) -> Value {
    let mut object = key_json(&created.key);
    let webhook_secret = created.key.webhook_secret.as_ref();
    object["key"] = created.text.as_str().into();
    object["webhook_secret"] = webhook_secret.map(WebhookSecret::expose).into();
    object
}

fn warn_of_exposure(ring: &KeyRing) {
    if let Some(exposure) = ring.exposure() {
        eprintln!("warning: {exposure}");
    }
}

/// The day of a moment, as the file's clock has it.
fn day(at_ms: Option<u64>, none: &str) -> String {
    let Some(at_ms) = at_ms else {
        return none.into();
    };
    let at = UNIX_EPOCH + Duration::from_millis(at_ms);
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.chars().take("2030-01-31".len()).collect()
}

fn now_ms() -> u64 {
    unix_ms(SystemTime::now())
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `60`, `60/min` or `2/s`, in one minute.
fn rate(text: &str) -> Result<NonZeroU32, String> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "min"));
    let seconds_of_a_minute = match unit {
        "min" | "m" | "minute" => 1,
        "s" | "sec" | "second" => 60,
        _ => return Err(format!("`{unit}` is not min or s; try 60/min")),
    };
    number
        .parse::<NonZeroU32>()
        .ok()
        .and_then(|number| number.checked_mul(NonZeroU32::new(seconds_of_a_minute)?))
        .ok_or_else(|| format!("`{number}` is not a number above 0; try 60/min"))
}

/// A time from now, a day, or a moment; always to come.
fn expiry(text: &str) -> Result<SystemTime, String> {
    let now = SystemTime::now();
    let at = match humantime::parse_duration(text) {
        Ok(duration) => now.checked_add(duration),
        Err(_) => humantime::parse_rfc3339(text)
            .or_else(|_| humantime::parse_rfc3339(&format!("{text}T00:00:00Z")))
            .ok(),
    };
    let at = at.filter(|at| humantime_can_write(*at)).ok_or_else(|| {
        format!("`{text}` is neither a time like 90d or 12h nor a day like 2030-01-31")
    })?;
    match at > now {
        true => Ok(at),
        false => Err(format!("{text} is over")),
    }
}

/// The file has four digits for a year.
fn humantime_can_write(at: SystemTime) -> bool {
    const YEAR_10000_S: u64 = 253_402_300_800;
    at < UNIX_EPOCH + Duration::from_secs(YEAR_10000_S)
}

fn webhook_url(text: &str) -> Result<String, String> {
    let url: Option<Uri> = text.parse().ok();
    let scheme = url.as_ref().and_then(Uri::scheme_str);
    match (scheme, url.as_ref().and_then(Uri::host)) {
        (Some("http" | "https"), Some(_)) => Ok(text.to_owned()),
        _ => Err("it must begin with http:// or https:// and name a host".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_in_minutes() {
        let minute = |text: &str| rate(text).map(NonZeroU32::get);
        assert_eq!(minute("60"), Ok(60));
        assert_eq!(minute("60/min"), Ok(60));
        assert_eq!(minute("2/s"), Ok(120));
        for bad in ["0", "0/s", "-1", "60/h", "many", "4294967295/s"] {
            assert!(minute(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_expiry_is_a_time_or_a_day_to_come() {
        let in_a_day = expiry("1d").unwrap();
        assert!(in_a_day > SystemTime::now() && in_a_day < expiry("25h").unwrap());
        assert_eq!(expiry("2999-01-31"), expiry("2999-01-31T00:00:00Z"));
        for bad in ["", "soon", "0s", "2020-01-01", "90", "9999999999d"] {
            assert!(expiry(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_webhook_goes_to_a_host() {
        assert!(webhook_url("https://example.com/hook").is_ok());
        for bad in ["example.com", "ftp://example.com", "https://", "/hook"] {
            assert!(webhook_url(bad).is_err(), "{bad}");
        }
    }
}
