//! The identity headers, which only the gateway may write, in every spelling that a worker could accept.

const IDENTITY: [&[u8]; 5] = [
    b"x-user-id",
    b"x-session-id",
    b"x-token-expires",
    b"x-client-address",
    b"x-request-id",
];
const IDENTITY_PREFIXES: [&[u8]; 3] = [b"x-gateway-", b"x-claim-", b"x-forwarded-"];

/// Whether a header is an identity header, in upper or lower case and with `_` or `-`.
pub fn in_identity_family(name: &str) -> bool {
    is_identity(name.as_bytes())
}

pub(super) fn is_identity(name: &[u8]) -> bool {
    let same = |known: &[u8]| name.len() == known.len() && begins(name, known);
    IDENTITY.iter().any(|known| same(known)) || IDENTITY_PREFIXES.iter().any(|p| begins(name, p))
}

fn begins(name: &[u8], known: &[u8]) -> bool {
    let folded = |byte: u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    name.len() >= known.len() && name.iter().zip(known).all(|(&a, &b)| folded(a) == b)
}
