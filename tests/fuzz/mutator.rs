//! Inputs that are almost right: kept ones, changed a little. The same seed makes the same inputs as long as the same
//! ones are kept.

use rand::RngExt;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most changes of one input.
const CHANGES_MAX: usize = 4;
/// Longest input, in bytes.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Most inputs that are kept beside the corpus.
const KEPT_MAX: usize = 4_096;
/// How long to go on when nobody says.
const DEFAULT_SECONDS: u64 = 5;

/// Where the corpus and the dictionary are.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz")
}

/// Makes inputs for as long as `REEL_FUZZ_SECONDS` says, from the seed that `REEL_FUZZ_SEED` gives.
pub(crate) struct Mutator {
    random: Pcg64,
    corpus: Vec<Vec<u8>>,
    dictionary: Vec<Vec<u8>>,
    /// Those of the corpus that have not been tried as they are.
    fresh: usize,
    until: Instant,
    pub(crate) made: u64,
}

impl Mutator {
    /// Starts from these inputs.
    pub(crate) fn new(corpus: Vec<Vec<u8>>) -> Self {
        assert!(!corpus.is_empty(), "a corpus has inputs");
        let dictionary = std::fs::read(directory().join("dictionary.txt")).unwrap();
        let words = dictionary.split(|byte| *byte == b'\n');
        Self {
            random: Pcg64::seed_from_u64(variable("REEL_FUZZ_SEED", 1)),
            fresh: corpus.len(),
            corpus,
            dictionary: words
                .filter(|word| !word.is_empty())
                .map(<[u8]>::to_vec)
                .collect(),
            until: Instant::now()
                + Duration::from_secs(variable("REEL_FUZZ_SECONDS", DEFAULT_SECONDS)),
            made: 0,
        }
    }

    /// The next input; `None`: the time is up. Every input of the corpus comes first, as it is.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        self.made += 1;
        if self.fresh > 0 {
            self.fresh -= 1;
            return Some(self.corpus[self.fresh].clone());
        }
        if Instant::now() >= self.until {
            return None;
        }
        let mut input = self.one_of_the_corpus();
        for _ in 0..self.random.random_range(1..=CHANGES_MAX) {
            self.change(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        Some(input)
    }

    /// An input that led to something new: others are made from it.
    pub(crate) fn keep(&mut self, input: Vec<u8>) {
        if self.corpus.len() < KEPT_MAX {
            self.corpus.push(input);
        }
    }

    fn one_of_the_corpus(&mut self) -> Vec<u8> {
        let index = self.random.random_range(0..self.corpus.len());
        self.corpus[index].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        match self.random.random_range(0..10) {
            0 => self.flip(input),
            1 => self.remove(input),
            2 => self.repeat(input),
            3 => self.splice(input),
            4 | 5 => self.insert_word(input),
            6 => self.replace_token(input),
            _ => self.change_json(input),
        }
    }

    fn place(&mut self, input: &[u8]) -> usize {
        self.random.random_range(0..=input.len())
    }

    fn piece(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let begin = self.place(input);
        let length = self.random.random_range(0..=16.min(input.len() - begin));
        begin..begin + length
    }

    fn flip(&mut self, input: &mut [u8]) {
        let place = self.place(input);
        if let Some(byte) = input.get_mut(place) {
            *byte = self.random.random_range(0..=u8::MAX);
        }
    }

    fn remove(&mut self, input: &mut Vec<u8>) {
        let piece = self.piece(input);
        input.drain(piece);
    }

    fn repeat(&mut self, input: &mut Vec<u8>) {
        let piece = self.piece(input);
        let times = match self.random.random_range(0..8) {
            0 => self.random.random_range(1..2_000),
            _ => self.random.random_range(1..4),
        };
        let repeated = input[piece.clone()].repeat(times);
        input.splice(piece.end..piece.end, repeated);
    }

    fn splice(&mut self, input: &mut Vec<u8>) {
        let other = self.one_of_the_corpus();
        let (here, there) = (self.place(input), self.place(&other));
        input.truncate(here);
        input.extend_from_slice(&other[there..]);
    }

    fn word(&mut self) -> Vec<u8> {
        let index = self.random.random_range(0..self.dictionary.len());
        self.dictionary[index].clone()
    }

    fn insert_word(&mut self, input: &mut Vec<u8>) {
        let place = self.place(input);
        let word = self.word();
        input.splice(place..place, word);
    }

    /// Puts a word where a run of letters and digits is.
    fn replace_token(&mut self, input: &mut Vec<u8>) {
        let place = self.place(input);
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
        let before = input[..place]
            .iter()
            .rev()
            .take_while(|byte| is_part(byte))
            .count();
        let after = input[place..]
            .iter()
            .take_while(|byte| is_part(byte))
            .count();
        let word = self.word();
        input.splice(place - before..place + after, word);
    }

    /// Changes a member of the object that the input ends with, if it does.
    fn change_json(&mut self, input: &mut Vec<u8>) {
        let begin = input
            .windows(2)
            .position(|pair| pair == b"\n{")
            .map_or(0, |place| place + 1);
        let Ok(Value::Object(mut members)) = serde_json::from_slice(&input[begin..]) else {
            return self.replace_token(input);
        };
        let names: Vec<String> = members.keys().cloned().collect();
        let word = self.word();
        let value = serde_json::from_slice(&word)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&word).into_owned()));
        match names.get(self.random.random_range(0..=names.len())) {
            Some(name) if self.random.random_bool(0.2) => drop(members.remove(name)),
            Some(name) => drop(members.insert(name.clone(), value)),
            None => {
                let name = String::from_utf8_lossy(&self.word())
                    .trim_matches('"')
                    .to_owned();
                members.insert(name, value);
            }
        }
        input.truncate(begin);
        input.extend(Value::Object(members).to_string().into_bytes());
    }
}

fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}
