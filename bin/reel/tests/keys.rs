//! `reel key`, as an operator runs it.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use reel_keys::{KEY_FILE_NAME, KeyError, KeyRing};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

fn reel(data_dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reel"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .current_dir(data_dir.parent().unwrap())
        .env_clear()
        .output()
        .unwrap()
}

#[track_caller]
fn printed(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

#[test]
fn a_key_is_made_shown_once_listed_and_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let create = reel(
        &data_dir,
        &[
            "key",
            "create",
            "--tenant=acme",
            "--rate=2/s",
            "--jobs=8",
            "--priority-max=interactive",
            "--expires=90d",
            "--webhook-url=https://example.com/hook",
            "--json",
        ],
    );
    let created: Value = serde_json::from_str(printed(&create)).unwrap();
    let (text, id) = (
        created["key"].as_str().unwrap(),
        created["id"].as_str().unwrap(),
    );
    let webhook_secret = created["webhook_secret"].as_str().unwrap();
    let ring = || KeyRing::load(&data_dir.join(KEY_FILE_NAME)).unwrap();
    let before = ring();
    let key = before.verify(text, now_ms()).unwrap();
    assert_eq!(key.tenant.as_str(), "acme");
    assert_eq!(key.rate_per_minute.unwrap().get(), 120);
    assert!(key.expires_ms.unwrap() > now_ms() + 89 * 24 * 3_600_000);

    for arguments in [&["key", "list"][..], &["key", "list", "--json"]] {
        let list = reel(&data_dir, arguments);
        let listed = printed(&list);
        assert!(listed.contains(id) && listed.contains("active"), "{listed}");
        let secret = text.rsplit_once('_').unwrap().1;
        assert!(
            !listed.contains(secret) && !listed.contains(webhook_secret),
            "{listed}"
        );
    }

    printed(&reel(&data_dir, &["key", "revoke", id]));
    assert_eq!(ring().verify(text, now_ms()), Err(KeyError::Revoked));
    assert!(printed(&reel(&data_dir, &["key", "list"])).contains("revoked"));
    let again = reel(&data_dir, &["key", "revoke", id]);
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn people_read_the_key_and_that_it_is_not_shown_again() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let output = reel(&data_dir, &["key", "create", "--tenant=acme"]);
    let text = printed(&output);
    assert!(text.starts_with("key             reel_"), "{text}");
    assert!(text.contains("not shown again"), "{text}");
    assert!(text.contains("\nwebhook secret  whsec_"), "{text}");
}

#[test]
fn nonsense_makes_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    for arguments in [
        &["key", "create"][..],
        &["key", "create", "--tenant=a b"],
        &["key", "create", "--tenant=a", "--rate=5/year"],
        &["key", "create", "--tenant=a", "--priority-max=urgent"],
        &["key", "create", "--tenant=a", "--expires=2020-01-01"],
        &["key", "create", "--tenant=a", "--webhook-url=example.com"],
    ] {
        let output = reel(&data_dir, arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!data_dir.exists(), "{arguments:?}");
    }
}
