//! Whatever bytes a client sends as a body, each parser answers with a request or with a sentence about it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "../../../tests/fuzz/mutator.rs"]
mod mutator;

use mutator::{Mutator, directory};
use reel_api::{
    ContentQuery, Continuation, CreateVideo, ExtendVideo, Fields, Invalid, ListVideos, Offer,
    PoolCommand, Preset, RemixVideo, Stamp,
};
use reel_domain::{
    Fps, Guidance, Job, JobId, Mode, ModelName, Priority, Prompt, Seed, Shape, Steps, TenantName,
};
use std::collections::BTreeSet;

/// Longest sentence, in bytes: a menu, or all names, and a piece of what came.
const MESSAGE_BYTES_MAX: usize = 600;
/// Longest name of a parameter that is repeated, in characters.
const PARAM_CHARS_MAX: usize = 64;
const COMMANDS: [&str; 6] = ["drain", "cordon", "uncordon", "replace", "roll", "release"];

struct Card {
    model: ModelName,
    shapes: Vec<Shape>,
    negative_prompt: Prompt,
}

impl Card {
    fn new() -> Self {
        let shapes = ["64x64@17f", "96x64@17f", "64x64@33f"];
        Self {
            model: "tiny-shapes".parse().unwrap(),
            shapes: shapes.map(|shape| shape.parse().unwrap()).to_vec(),
            negative_prompt: Prompt::optional(String::new()).unwrap(),
        }
    }

    fn offer(&self) -> Offer<'_> {
        Offer {
            model: &self.model,
            shapes: &self.shapes,
            modes: &[Mode::T2v],
            preset: Preset {
                shape: self.shapes[0],
                fps: Fps::new(8).unwrap(),
                steps: Steps::new(20).unwrap(),
                guidance: Guidance::new(3.0).unwrap(),
                negative_prompt: &self.negative_prompt,
            },
        }
    }

    fn continuations(&self) -> Vec<Continuation> {
        let of = |shape: &Shape| Continuation {
            shape: *shape,
            from_frames: 9,
        };
        self.shapes.iter().map(of).collect()
    }
}

fn stamp() -> Stamp {
    Stamp {
        id: JobId::from_bytes([7; 16]),
        tenant: TenantName::default(),
        created_at_ms: 1_800_000_000_000,
        seed: Seed::new(42).unwrap(),
        with_image: false,
        priority: Priority::default(),
        callback: None,
        trace: None,
    }
}

/// What each parser makes of these fields: the name of the parser, and a job or what is wrong.
fn parsed(
    fields: &Fields,
    card: &Card,
    source: &Job,
) -> Vec<(&'static str, Result<Option<Job>, Invalid>)> {
    let offers = [card.offer()];
    let create = CreateVideo::from_fields(fields.clone())
        .and_then(|request| request.into_job(&offers, stamp()));
    let remix = RemixVideo::from_fields(fields.clone())
        .and_then(|request| request.into_job(source, stamp()));
    let extend = ExtendVideo::from_fields(fields.clone())
        .and_then(|request| request.into_job(source, &card.continuations(), stamp()));
    let mut all = vec![
        ("create", create.map(Some)),
        ("remix", remix.map(Some)),
        ("extend", extend.map(Some)),
    ];
    for name in COMMANDS {
        let command = PoolCommand::from_fields(name, fields.clone());
        all.push((name, command.map(|_| None)));
    }
    all
}

/// The body of a request of the corpus, or all of it, if it has none.
fn body(request: &[u8]) -> Vec<u8> {
    let begin = request.windows(2).position(|pair| pair == b"\n\n");
    let id = JobId::from_bytes([7; 16]).to_string();
    let body = String::from_utf8_lossy(&request[begin.map_or(0, |place| place + 2)..]);
    body.replace("{completed}", &id).into_bytes()
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A sentence of bounded length, with a parameter that the client can find.
fn check(invalid: &Invalid, codes: &BTreeSet<String>) {
    assert!(
        invalid.message.len() <= MESSAGE_BYTES_MAX,
        "{}",
        invalid.message
    );
    assert!(!invalid.message.is_empty());
    assert!(
        codes.contains(invalid.code),
        "{} is not in the document",
        invalid.code
    );
    let param = invalid.param.as_deref().unwrap_or_default();
    assert!(param.chars().count() <= PARAM_CHARS_MAX, "{param}");
}

fn codes() -> BTreeSet<String> {
    let document = serde_json::to_value(reel_api::openapi()).unwrap();
    let codes = document["components"]["schemas"]["ErrorCode"]["enum"]
        .as_array()
        .unwrap();
    codes
        .iter()
        .map(|code| code.as_str().unwrap().to_owned())
        .collect()
}

/// `REEL_FUZZ_SECONDS=600 cargo nextest run --profile chaos --package reel-api --test fuzz` goes on for longer.
#[test]
fn no_body_and_no_query_breaks_a_parser() {
    let (card, codes) = (Card::new(), codes());
    let least = Fields::from_json(br#"{"prompt": "a", "seed": 1}"#).unwrap();
    let least = CreateVideo::from_fields(least).unwrap();
    let source = least.into_job(&[card.offer()], stamp()).unwrap();
    let corpus = std::fs::read_dir(directory().join("corpus")).unwrap();
    let mut paths: Vec<_> = corpus.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus = paths.iter().map(|path| body(&std::fs::read(path).unwrap()));
    let mut mutator = Mutator::new(corpus.collect());
    let (mut outcomes, mut jobs) = (BTreeSet::new(), 0_u64);
    while let Some(input) = mutator.next() {
        // A panic shows what it was about in what the test prints.
        let shown = Shown(&input);
        let mut results = Vec::new();
        match Fields::from_json(&input) {
            Err(invalid) => results.push(("json", Err(invalid))),
            Ok(fields) => {
                let canonical = fields.canonical();
                results.extend(parsed(&fields, &card, &source));
                assert_eq!(fields.canonical(), canonical, "parsing changes nothing");
            }
        }
        if let Ok(text) = str::from_utf8(&input) {
            let pairs = pairs(text);
            match Fields::from_text(pairs.clone()) {
                Err(invalid) => results.push(("form", Err(invalid))),
                Ok(fields) => results.extend(parsed(&fields, &card, &source)),
            }
            results.push(("list", ListVideos::from_query(pairs.clone()).map(|_| None)));
            results.push(("content", ContentQuery::from_query(pairs).map(|_| None)));
        }
        let mut new = false;
        for (parser, result) in results {
            let outcome = match result {
                Ok(job) => {
                    if let Some(job) = job {
                        jobs += 1;
                        assert!(card.shapes.contains(&job.bundle.shape));
                        assert_eq!(job.id, stamp().id);
                    }
                    (parser, "", None)
                }
                Err(invalid) => {
                    check(&invalid, &codes);
                    // Of names that nobody knows there are too many to tell apart.
                    let known = !invalid.code.contains("parameter");
                    (parser, invalid.code, invalid.param.filter(|_| known))
                }
            };
            new |= outcomes.insert(outcome);
        }
        drop(shown);
        if new {
            mutator.keep(input);
        }
    }
    println!(
        "{} inputs, {} outcomes, {jobs} jobs",
        mutator.made,
        outcomes.len()
    );
    assert!(jobs > 0);
}

/// Says which input it was when it is dropped on the way out of a panic.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was {}", self.0.escape_ascii());
        }
    }
}
