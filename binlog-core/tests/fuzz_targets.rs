//! The fuzz targets on a fixed number of inputs: the seeds from real logs, and each of them changed over and over by a
//! generator with a fixed seed. `FUZZ_CASES=N` runs N changed inputs instead, `FUZZ_INPUT=FILE` one of the fuzzer's own and
//! writes the files that it stands for beside it, `FUZZ_SEEDS=FOLDER` writes the seeds there, see `fuzz/README.md`.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod targets;

use std::path::{Path, PathBuf};

use sha2::Digest as _;

use targets::container::{Input, PARAMETERS, Rng, havoc, mutate};
use targets::{Scratch, number_of, run, seeds};

/// Changed inputs by default.
const CASES: usize = 20_000;

#[test]
fn nothing_fools_the_targets() {
    let scratch = Scratch::new();
    let mut corpus = seeds::all(&scratch);
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS").map(PathBuf::from) {
        std::fs::create_dir_all(&folder).unwrap();
        for seed in &corpus {
            let name = hex::encode(&sha2::Sha256::digest(seed)[..10]);
            std::fs::write(folder.join(name), seed).unwrap();
        }
    }
    if let Ok(path) = std::env::var("FUZZ_INPUT") {
        return one(&path, &scratch);
    }
    let mut peak = 0;
    let mut guarded = |data: &[u8]| {
        let kept = std::panic::AssertUnwindSafe(|| run(data, &scratch));
        match std::panic::catch_unwind(kept) {
            Ok(memory) => peak = peak.max(memory),
            Err(_) => {
                let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("failed-input");
                std::fs::write(&path, data).unwrap();
                panic!("the input is in {}", path.display())
            }
        }
    };
    for seed in &corpus {
        guarded(seed);
    }
    let cases = std::env::var("FUZZ_CASES").map_or(CASES, |n| n.parse().unwrap());
    let mut rng = Rng::new(1);
    let seeds = corpus.len();
    for case in 0..cases {
        let at = rng.below(corpus.len());
        let mut data = corpus[at].clone();
        for _ in 0..=rng.below(3) {
            if rng.below(4) == 0 {
                let mut payload = data.split_off(PARAMETERS);
                havoc(&mut payload, &mut rng);
                data.append(&mut payload);
            } else {
                let mut inner = Rng::new(case as u64);
                data = mutate(&data, &mut rng, &mut |bytes| havoc(bytes, &mut inner));
            }
        }
        guarded(&data);
        // Changes add up in some of them.
        if case % 8 == 0 && data.len() < 24 << 10 {
            let slot = rng.below(seeds);
            if case % 16 == 0 {
                corpus[slot] = data;
            } else if corpus.len() < 4 * seeds {
                corpus.push(data);
            }
        }
    }
    eprintln!("{seeds} seeds, {cases} changed, peak {peak} bytes");
    assert!(seeds > 300, "{seeds}");
}

/// One input; its files are written beside it.
fn one(path: &str, scratch: &Scratch) {
    let data = std::fs::read(path).unwrap();
    let input = Input::decode(&data).unwrap();
    let relay = input.target == number_of("relay_logs");
    for (i, file) in input.logs(4, relay).iter().enumerate() {
        std::fs::write(format!("{path}.{i}"), file).unwrap();
    }
    run(&data, scratch);
}
