//! `ARTIFACT_COMPRESSION_LEVEL` and `CACHE_COMPRESSION_LEVEL`.

use flate2::Compression;
use libdeflater::CompressionLvl;
use serde::{Deserialize, Serialize};

/// How hard to compress, in GitLab Runner's five words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// Zip entries are stored.
    Fastest,
    Fast,
    #[default]
    Default,
    Slow,
    Slowest,
}

impl Level {
    /// Reads a word; in capitals, too.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "fastest" => Self::Fastest,
            "fast" => Self::Fast,
            "default" => Self::Default,
            "slow" => Self::Slow,
            "slowest" => Self::Slowest,
            _ => return None,
        })
    }

    /// Of gzip, and of files that are cut. GitLab Runner's are 0, 1, 5, 7 and 9 of another library; these make archives of their size.
    pub(super) fn zlib(self) -> Compression {
        Compression::new(match self {
            Self::Fastest => 0,
            Self::Fast => 2,
            Self::Default => 3,
            Self::Slow => 6,
            Self::Slowest => 9,
        })
    }

    /// Of files in a zip. Measured with the sources of Go: the first level is within 3 % of the size of GitLab Runner's default.
    pub(super) fn libdeflate(self) -> CompressionLvl {
        let level = match self {
            Self::Fastest => 0,
            Self::Fast | Self::Default => 1,
            Self::Slow => 6,
            Self::Slowest => 9,
        };
        CompressionLvl::new(level).expect("libdeflate has levels 0 to 12")
    }

    pub(super) fn zstd(self) -> i32 {
        match self {
            Self::Fastest => 1,
            Self::Fast => 2,
            Self::Default => 3,
            Self::Slow => 7,
            Self::Slowest => 11,
        }
    }
}
