use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// Shows the current token and keeps what follows.
fn rotate(chain: &mut Chain, token: &RefreshToken, now: Timestamp) -> RefreshToken {
    match chain.show(token, now) {
        Shown::Current { next, token } => {
            *chain = next;
            token
        }
        Shown::Recent(_) | Shown::Replayed => panic!("the token is not the current one"),
    }
}

#[test]
fn a_chain_keeps_hashes_and_each_token_has_its_family() {
    let (mut chain, first) = Chain::start().unwrap();
    let told = BASE64_URL_SAFE_NO_PAD.decode(first.expose()).unwrap();
    assert_eq!(chain.current, TokenHash::of(&told));
    assert_eq!(chain.family, TokenHash::of(&told[..16]));
    let second = rotate(&mut chain, &first, START);
    assert_eq!(second.family(), chain.family);
    assert_eq!(second.hash(), chain.current);
    assert_ne!(second.expose(), first.expose());
    let (_, other) = Chain::start().unwrap();
    assert_ne!(other.family(), chain.family);
}

#[test]
fn whoever_shows_one_token_at_the_same_time_is_given_the_same_successor() {
    let (chain, first) = Chain::start().unwrap();
    let next = |now| match chain.show(&first, now) {
        Shown::Current { token, .. } => token.expose(),
        Shown::Recent(_) | Shown::Replayed => panic!("nobody has kept a successor"),
    };
    assert_eq!(next(at(0)), next(at(3)));
}

#[test]
fn an_old_token_is_good_for_ten_seconds_and_then_a_replay() {
    let (mut chain, first) = Chain::start().unwrap();
    let second = rotate(&mut chain, &first, START);
    let third = rotate(&mut chain, &second, at(5_000));
    for now in [0, 5_000, 10_000] {
        assert!(
            matches!(chain.show(&first, at(now)), Shown::Recent(token) if token.expose() == third.expose())
        );
    }
    assert!(matches!(chain.show(&first, at(10_001)), Shown::Replayed));
    assert!(matches!(chain.show(&second, at(15_000)), Shown::Recent(_)));
    assert!(matches!(chain.show(&second, at(15_001)), Shown::Replayed));
}

#[test]
fn a_forged_token_of_a_known_family_is_a_replay() {
    let (chain, mut token) = Chain::start().unwrap();
    token.0[RefreshToken::BYTES - 1] ^= 1;
    assert!(matches!(chain.show(&token, START), Shown::Replayed));
}

#[test]
fn without_a_salt_nothing_follows() {
    let (mut chain, token) = Chain::start().unwrap();
    chain.salt = None;
    assert!(matches!(chain.show(&token, START), Shown::Replayed));
}

#[test]
fn a_session_that_is_hammered_remembers_a_bounded_number_of_tokens() {
    let (mut chain, mut token) = Chain::start().unwrap();
    for n in 0..500 {
        token = rotate(&mut chain, &token, at(n));
        assert!(chain.replaced.len() <= MAX_REPLACED);
    }
}

#[test]
fn only_what_was_told_is_read_again() {
    let (_, token) = Chain::start().unwrap();
    let told = token.expose();
    assert_eq!(RefreshToken::parse(&told).unwrap().expose(), told);
    for bad in [
        "",
        "x",
        &told[1..],
        &format!("{told}AAAA"),
        &told.replace(|_| true, "ü"),
    ] {
        assert!(RefreshToken::parse(bad).is_none(), "{bad}");
    }
}

proptest! {
    /// Any interleaving of clients that show any tokens they were ever given: within the grace each
    /// is given the token that is current, after it none is.
    #[test]
    fn a_token_works_until_ten_seconds_after_its_successor(
        steps in prop::collection::vec((0_i64..4_000, any::<prop::sample::Index>()), 1..60)
    ) {
        let (mut chain, first) = Chain::start().unwrap();
        // Each token with the time at which it was replaced.
        let mut tokens = vec![(first, None)];
        let mut now = 0;
        for (pause, which) in steps {
            now += pause;
            let which = which.index(tokens.len());
            let (shown, replaced) = tokens[which].clone();
            let current = tokens.last().unwrap().0.expose();
            match (chain.show(&shown, at(now)), replaced) {
                (Shown::Current { next, token }, None) => {
                    prop_assert_eq!(shown.expose(), current);
                    chain = next;
                    tokens[which].1 = Some(now);
                    tokens.push((token, None));
                }
                (Shown::Recent(token), Some(replaced)) => {
                    prop_assert!(now - replaced <= 10_000);
                    prop_assert_eq!(token.expose(), current);
                }
                (Shown::Replayed, Some(replaced)) => prop_assert!(now - replaced > 10_000),
                (_, replaced) => prop_assert!(false, "replaced at {replaced:?}, shown at {now}"),
            }
        }
    }
}
