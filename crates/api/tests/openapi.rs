//! The committed document is the one that the code makes, and says what it should.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn document() -> Value {
    serde_json::to_value(reel_api::openapi()).unwrap()
}

/// `REEL_UPDATE=1 cargo nextest run --package reel-api --test openapi` writes it anew.
#[test]
fn the_committed_document_is_the_one_that_the_code_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let made = serde_json::to_string_pretty(&reel_api::openapi()).unwrap() + "\n";
    if std::env::var_os("REEL_UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/openapi.json is not what the code makes: REEL_UPDATE=1 cargo nextest run --package reel-api --test openapi"
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    // Every route answers so, and no operation can: it is about methods that there are no operations for.
    references.insert("#/components/responses/Error405".into());
    for kind in ["schemas", "responses"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(references.contains(&reference), "nobody uses {reference}");
        }
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                references.insert(reference.clone());
            }
            members
                .values()
                .for_each(|value| collect(value, references));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn what_may_be_null_says_so_and_is_there_all_the_same() {
    let document = document();
    let video = &document["components"]["schemas"]["VideoObject"];
    let properties = video["properties"].as_object().unwrap();
    assert_eq!(
        video["required"].as_array().unwrap().len(),
        properties.len()
    );
    for (name, kind) in [("completed_at", "integer"), ("device", "string")] {
        assert_eq!(properties[name]["type"], serde_json::json!([kind, "null"]));
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_and_a_summary() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let mut names = BTreeSet::new();
    for operation in paths
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
    {
        assert!(operation["summary"].is_string(), "{operation}");
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{name} names two operations");
    }
}
