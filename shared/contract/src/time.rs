//! Times as the platform writes them: whole milliseconds, RFC 3339 in UTC.

use jiff::Timestamp;

/// Truncates a time to whole milliseconds.
pub fn whole_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// `2026-11-23T10:15:00.123Z`
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Serde for [`Timestamp`] fields: RFC 3339, UTC, milliseconds.
pub mod millis {
    use super::*;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&rfc3339(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(from).map(whole_millis)
    }

    /// The same for `Option<Timestamp>`: `None` is `null`.
    pub mod option {
        use super::*;

        pub fn serialize<S: Serializer>(
            time: &Option<Timestamp>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, to),
                None => to.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Ok(Option::<Timestamp>::deserialize(from)?.map(whole_millis))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_exactly_three_decimals_in_utc() {
        let time: Timestamp = "2026-11-23T10:15:00.1239+02:00".parse().unwrap();
        assert_eq!(rfc3339(whole_millis(time)), "2026-11-23T08:15:00.123Z");
        let whole: Timestamp = "2026-11-23T08:15:00Z".parse().unwrap();
        assert_eq!(rfc3339(whole), "2026-11-23T08:15:00.000Z");
    }
}
