//! What Pingora compresses by flate2 comes back.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

#[test]
fn what_flate2_compresses_comes_back() {
    let text = "as long as the river runs, ".repeat(10_000);
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    compressed
        .write_all(text.as_bytes())
        .expect("a vector takes everything");
    let compressed = compressed.finish().expect("a stream ends");
    assert!(compressed.len() * 50 < text.len());
    let mut back = String::new();
    let mut stream = GzDecoder::new(compressed.as_slice());
    stream.read_to_string(&mut back).expect("it is a stream");
    assert_eq!(back, text);
}
