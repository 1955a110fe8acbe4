//! The fuzz targets under libFuzzer. Half of the changes are made event by event, so that lengths stay right.
#![no_main]

#[path = "../../tests/targets/mod.rs"]
mod targets;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use targets::Scratch;
use targets::container::{Rng, mutate};

thread_local! {
    static SCRATCH: Scratch = Scratch::new();
}

fuzz_target!(|data: &[u8]| {
    SCRATCH.with(|scratch| targets::run(data, scratch));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = Rng::new(u64::from(seed));
    if rng.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let changed = mutate(&data[..size], &mut rng, &mut |bytes| {
        let size = bytes.len();
        bytes.resize(size + 16, 0);
        let size = fuzzer_mutate(bytes, size, size + 16);
        bytes.truncate(size);
    });
    match data.get_mut(..changed.len()) {
        Some(target) if changed.len() <= max_size => {
            target.copy_from_slice(&changed);
            changed.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});
