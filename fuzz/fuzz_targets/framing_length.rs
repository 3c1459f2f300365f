#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| raon_fuzz::framings::length(data));
