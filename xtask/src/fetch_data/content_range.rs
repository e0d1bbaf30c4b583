//! Which part of a file an answer holds (RFC 9110, section 14.4).

/// What follows `Content-Range:`.
#[derive(Debug, PartialEq)]
pub(super) struct ContentRange {
    /// The part that is sent: its first byte and the one after its last. It may be shorter than what
    /// was asked for. `None` if none is.
    pub(super) part: Option<(u64, u64)>,
    /// Bytes of the whole file, where the server knows them.
    pub(super) whole: Option<u64>,
}

impl ContentRange {
    /// Of `bytes 100-149/200` the part 100 to 150 of 200 bytes, of `bytes */200` only these.
    ///
    /// `None` for what is no range or contradicts itself.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (unit, range) = text.trim().split_once(' ')?;
        let (part, whole) = range.trim().split_once('/')?;
        let whole = if whole == "*" { None } else { Some(whole.parse().ok()?) };
        let part = match part.split_once('-') {
            Some((first, last)) => {
                Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?))
            }
            None if part == "*" => None,
            None => return None,
        };
        let fits = part.is_none_or(|(from, end): (u64, u64)| {
            from < end && whole.is_none_or(|whole| end <= whole)
        });
        (unit.eq_ignore_ascii_case("bytes") && fits).then_some(Self { part, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let range = |part, whole| Some(ContentRange { part, whole });
        assert_eq!(ContentRange::parse("bytes 100-149/200"), range(Some((100, 150)), Some(200)));
        assert_eq!(ContentRange::parse(" Bytes 0-0/1 "), range(Some((0, 1)), Some(1)));
        assert_eq!(ContentRange::parse("bytes 5-9/*"), range(Some((5, 10)), None));
        assert_eq!(ContentRange::parse("bytes */200"), range(None, Some(200)));
        for wrong in [
            "",
            "bytes",
            "bytes 1-2",
            "bytes 9-5/20",
            "bytes 0-20/20",
            "bytes 5/20",
            "bytes -5/20",
            "bytes 0-18446744073709551615/*",
            "lines 0-1/2",
        ] {
            assert_eq!(ContentRange::parse(wrong), None, "{wrong:?}");
        }
    }
}
