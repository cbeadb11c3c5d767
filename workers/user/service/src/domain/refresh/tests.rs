use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// Presents the current token and keeps the next family.
fn rotate(family: &mut TokenFamily, token: &RefreshToken, now: Timestamp) -> RefreshToken {
    match family.check(token, now) {
        Presented::Current { next, token } => {
            *family = next;
            token
        }
        Presented::Recent(_) | Presented::Replayed => panic!("the token is not the current one"),
    }
}

#[test]
fn a_chain_keeps_hashes_and_each_token_has_its_family() {
    let (mut family, first) = TokenFamily::start().unwrap();
    let exposed = BASE64_URL_SAFE_NO_PAD.decode(first.expose()).unwrap();
    assert_eq!(family.current, TokenHash::of(&exposed));
    assert_eq!(family.id, TokenHash::of(&exposed[..16]));
    let second = rotate(&mut family, &first, START);
    assert_eq!(second.family_id(), family.id);
    assert_eq!(second.hash(), family.current);
    assert_ne!(second.expose(), first.expose());
    let (_, other) = TokenFamily::start().unwrap();
    assert_ne!(other.family_id(), family.id);
}

#[test]
fn whoever_shows_one_token_at_the_same_time_is_given_the_same_successor() {
    let (family, first) = TokenFamily::start().unwrap();
    let next = |now| match family.check(&first, now) {
        Presented::Current { token, .. } => token.expose(),
        Presented::Recent(_) | Presented::Replayed => panic!("no successor was kept"),
    };
    assert_eq!(next(at(0)), next(at(3)));
}

#[test]
fn an_old_token_is_good_for_ten_seconds_and_then_a_replay() {
    let (mut family, first) = TokenFamily::start().unwrap();
    let second = rotate(&mut family, &first, START);
    let third = rotate(&mut family, &second, at(5_000));
    for now in [0, 5_000, 10_000] {
        assert!(
            matches!(family.check(&first, at(now)), Presented::Recent(token) if token.expose() == third.expose())
        );
    }
    assert!(matches!(
        family.check(&first, at(10_001)),
        Presented::Replayed
    ));
    assert!(matches!(
        family.check(&second, at(15_000)),
        Presented::Recent(_)
    ));
    assert!(matches!(
        family.check(&second, at(15_001)),
        Presented::Replayed
    ));
}

#[test]
fn a_forged_token_of_a_known_family_is_a_replay() {
    let (family, mut token) = TokenFamily::start().unwrap();
    token.0[RefreshToken::BYTES - 1] ^= 1;
    assert!(matches!(family.check(&token, START), Presented::Replayed));
}

#[test]
fn without_a_salt_nothing_follows() {
    let (mut family, token) = TokenFamily::start().unwrap();
    family.salt = None;
    assert!(matches!(family.check(&token, START), Presented::Replayed));
}

#[test]
fn a_session_that_is_hammered_remembers_a_bounded_number_of_tokens() {
    let (mut family, mut token) = TokenFamily::start().unwrap();
    for n in 0..500 {
        token = rotate(&mut family, &token, at(n));
        assert!(family.replaced.len() <= MAX_REPLACED);
    }
}

#[test]
fn only_what_was_told_is_read_again() {
    let (_, token) = TokenFamily::start().unwrap();
    let exposed = token.expose();
    assert_eq!(RefreshToken::parse(&exposed).unwrap().expose(), exposed);
    for bad in [
        "",
        "x",
        &exposed[1..],
        &format!("{exposed}AAAA"),
        &exposed.replace(|_| true, "ü"),
    ] {
        assert!(RefreshToken::parse(bad).is_none(), "{bad}");
    }
}

proptest! {
    /// Clients present any tokens that they ever received, in any order. Within the grace each gets
    /// the current token; after it none does.
    #[test]
    fn a_token_works_until_ten_seconds_after_its_successor(
        steps in prop::collection::vec((0_i64..4_000, any::<prop::sample::Index>()), 1..60)
    ) {
        let (mut family, first) = TokenFamily::start().unwrap();
        // Each token, and when it was replaced.
        let mut tokens = vec![(first, None)];
        let mut now = 0;
        for (pause, which) in steps {
            now += pause;
            let which = which.index(tokens.len());
            let (presented, replaced) = tokens[which].clone();
            let current = tokens.last().unwrap().0.expose();
            match (family.check(&presented, at(now)), replaced) {
                (Presented::Current { next, token }, None) => {
                    prop_assert_eq!(presented.expose(), current);
                    family = next;
                    tokens[which].1 = Some(now);
                    tokens.push((token, None));
                }
                (Presented::Recent(token), Some(replaced)) => {
                    prop_assert!(now - replaced <= 10_000);
                    prop_assert_eq!(token.expose(), current);
                }
                (Presented::Replayed, Some(replaced)) => prop_assert!(now - replaced > 10_000),
                (_, replaced) => prop_assert!(false, "replaced at {replaced:?}, presented at {now}"),
            }
        }
    }
}
