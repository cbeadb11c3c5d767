//! The conformance suite of `UserStore`, which every adapter passes. Each fact gets a fresh, empty
//! store.
#![expect(clippy::unwrap_used, reason = "in a test suite a failure is a panic")]

mod accounts;
mod attempts;
mod endings;
mod fixtures;
mod sessions;

use std::sync::Arc;

use users::store::UserStore;

/// Runs a list of facts, each on a store of its own.
macro_rules! facts {
    ($fresh:ident: $($module:ident::$fact:ident,)*) => {
        $($module::$fact($fresh().await).await;)*
    };
}

/// Runs the whole suite on the stores that `fresh` makes.
pub(crate) async fn every_fact(fresh: impl AsyncFn() -> Arc<dyn UserStore>) {
    facts!(fresh:
        accounts::an_account_is_found_as_it_was_created,
        accounts::nobody_is_found_in_an_empty_store,
        accounts::one_address_in_two_spellings_is_one_account,
        accounts::of_parallel_creations_of_one_address_exactly_one_succeeds,
        accounts::preparing_twice_and_at_once_changes_nothing,
        accounts::a_password_is_rehashed_only_while_it_is_the_one_that_was_read,
        accounts::a_change_is_kept_over_the_version_before_and_no_other,
        accounts::an_address_is_taken_until_its_account_has_another,
        accounts::of_parallel_password_changes_exactly_one_succeeds,
        accounts::a_deleted_account_is_gone_and_its_event_waits,
        accounts::an_account_is_deleted_once,
        accounts::a_tombstone_is_purged_when_nothing_is_left_to_be_done,
        sessions::a_session_is_found_as_it_was_created_by_its_id_and_its_tokens,
        sessions::a_session_of_another_time_is_not_kept,
        sessions::of_parallel_refreshes_with_one_token_exactly_one_is_kept,
        sessions::an_ended_session_is_gone_and_ends_once,
        sessions::ends_are_told_in_order_from_any_point_on,
        sessions::a_session_ends_only_while_its_token_is_the_one_that_was_read,
        sessions::the_list_shows_what_is_alive_newest_first_in_pages,
        endings::another_password_ends_every_session_but_the_one_that_is_kept,
        endings::a_deletion_ends_every_session,
        endings::no_session_slips_through_between_a_login_and_a_new_password,
        attempts::of_parallel_attempts_exactly_a_burst_is_admitted,
        attempts::an_attempt_that_is_given_back_was_never_made,
        attempts::somebody_who_is_known_stays_so_for_a_while,
    );
}
