//! Byte ranges of downloads and of upload chunks.

use std::str::FromStr;

/// A `Range` header with one range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeRequest {
    /// `bytes=first-` or `bytes=first-last`.
    From(u64, Option<u64>),
    /// `bytes=-length`.
    Last(u64),
}

/// The text is no range that we answer; such headers are ignored, as HTTP allows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a range of bytes")]
pub struct ParseRangeError;

impl FromStr for RangeRequest {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text.trim().strip_prefix("bytes=").ok_or(ParseRangeError)?;
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| ParseRangeError);
        match range.split_once('-').ok_or(ParseRangeError)? {
            ("", length) => number(length).map(Self::Last),
            (first, "") => Ok(Self::From(number(first)?, None)),
            (first, last) => Ok(Self::From(number(first)?, Some(number(last)?))),
        }
    }
}

impl RangeRequest {
    /// Returns the first and last byte of the range in content of this size, or `None` if it has none of them.
    pub fn within(self, size: u64) -> Option<(u64, u64)> {
        let last_of_all = size.checked_sub(1)?;
        let (first, last) = match self {
            Self::From(first, last) => (first, last.unwrap_or(last_of_all).min(last_of_all)),
            Self::Last(0) => return None,
            Self::Last(length) => (size.saturating_sub(length), last_of_all),
        };
        (first <= last).then_some((first, last))
    }
}

/// The `Content-Range` of an upload's chunk: `first-last`, which clients also write as `bytes first-last/total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte.
    pub first: u64,
    /// The last byte, inclusive.
    pub last: u64,
}

impl FromStr for ContentRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().trim_start_matches("bytes").trim_start();
        let range = text.split('/').next().unwrap_or(text);
        let (first, last) = range.split_once('-').ok_or(ParseRangeError)?;
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| ParseRangeError);
        Ok(Self { first: number(first)?, last: number(last)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_downloads() {
        for (text, expected) in [
            ("bytes=0-99", Some((0, 99))),
            ("bytes=10-", Some((10, 99))),
            ("bytes=-10", Some((90, 99))),
            ("bytes=-1000", Some((0, 99))),
            ("bytes=50-1000", Some((50, 99))),
            ("bytes=100-", None),
            ("bytes=50-0", None),
            ("bytes=-0", None),
        ] {
            assert_eq!(text.parse::<RangeRequest>().unwrap().within(100), expected, "{text}");
        }
        assert_eq!("bytes=0-".parse::<RangeRequest>().unwrap().within(0), None);
        assert!("items=0-1".parse::<RangeRequest>().is_err());
    }

    #[test]
    fn ranges_of_chunks() {
        for text in ["5-9", "bytes 5-9/100", "bytes 5-9"] {
            assert_eq!(text.parse(), Ok(ContentRange { first: 5, last: 9 }));
        }
        assert!("5".parse::<ContentRange>().is_err());
    }
}
