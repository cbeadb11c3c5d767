//! Classes of bytes: which bytes are allowed in which part of a head.

pub(super) type Class = [bool; 256];

/// How many bytes, from the first on, belong to a class.
pub(super) fn run_of(class: &Class, bytes: &[u8]) -> usize {
    let end = bytes.iter().position(|&byte| !class[usize::from(byte)]);
    end.unwrap_or(bytes.len())
}

/// The bytes of `extra`, with or without all letters and digits.
const fn class(extra: &[u8], alphanumeric: bool) -> Class {
    let mut table = [false; 256];
    let mut byte: u8 = 0;
    while alphanumeric && byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < extra.len() {
        table[extra[index] as usize] = true;
        index += 1;
    }
    table
}

/// RFC 9110 `token`.
pub(super) const TOKEN: Class = class(b"!#$%&'*+-.^_`|~", true);
/// RFC 3986 `pchar` without escapes and without `;`.
pub(super) const PATH_CHARACTER: Class = class(b"-._~!$&'()*+,=:@", true);
/// Visible ASCII, except what no URI library accepts. Browsers send all of these unencoded.
pub(super) const QUERY_CHARACTER: Class = class(b"-._~!$&'()*+,=:@;/?%[]{}|^`\\", true);
/// RFC 9110 `field-content`: tab, visible ASCII and space, and anything beyond ASCII.
pub(super) const VALUE: Class = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = byte == 0x09;
        byte += 1;
    }
    table[0x7f] = false;
    table
};
/// RFC 3986 `host` and `port`, without the user information that an `@` would end.
pub(super) const HOST: Class = class(b"-._~!$&'()*+,=:;%[]", true);
