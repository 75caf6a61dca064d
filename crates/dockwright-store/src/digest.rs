//! Digests: how content is named.
//!
//! Only SHA-256 is known. A digest of another algorithm is refused by name rather than stored unverified.

use std::{
    fmt,
    io::{self, Read, Write},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "sha256";

/// The SHA-256 of some bytes; printed as `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a [`Digest`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseDigestError {
    /// There is no `algorithm:` in front.
    #[error("digest `{0}` has no algorithm; expected `sha256:<64 hex digits>`")]
    NoAlgorithm(String),
    /// The algorithm is not SHA-256.
    #[error("digest algorithm `{0}` is not supported; only sha256 is")]
    UnsupportedAlgorithm(String),
    /// The part after the colon is not 64 lower-case hexadecimal digits.
    #[error("digest `{0}` is not 64 lower-case hexadecimal digits")]
    InvalidHex(String),
}

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the digest with this value.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 64 hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Returns the first twelve hexadecimal digits, as Docker prints identifiers.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }

    /// Reads 64 hexadecimal digits without the algorithm.
    pub fn from_hex(text: &str) -> Result<Self, ParseDigestError> {
        let invalid = || ParseDigestError::InvalidHex(text.to_owned());
        if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut value = [0; 32];
        hex::decode_to_slice(text, &mut value).map_err(|_| invalid())?;
        Ok(Self(value))
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, encoded) = text.split_once(':').ok_or_else(|| ParseDigestError::NoAlgorithm(text.to_owned()))?;
        if algorithm != ALGORITHM {
            return Err(ParseDigestError::UnsupportedAlgorithm(algorithm.to_owned()));
        }
        Self::from_hex(encoded)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A newtype over [`Digest`] that prints, parses and serialises like one.
macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// Returns the 64 hexadecimal digits without the algorithm.
            pub fn hex(&self) -> String {
                self.0.hex()
            }

            /// Returns the first twelve hexadecimal digits, as Docker prints identifiers.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }
    };
}

digest_newtype! {
    /// The digest of a layer's uncompressed tar.
    DiffId
}

digest_newtype! {
    /// The digest of an image's configuration.
    ImageId
}

/// Hashes what passes through it on the way to (or from) another stream.
pub struct Hashing<S> {
    inner: S,
    hash: Sha256,
    length: u64,
}

impl<S> Hashing<S> {
    /// Starts with nothing hashed.
    pub fn new(inner: S) -> Self {
        Self { inner, hash: Sha256::new(), length: 0 }
    }

    /// Returns the number of bytes that passed.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the digest of what passed so far.
    pub fn digest(&self) -> Digest {
        Digest(self.hash.clone().finalize().into())
    }

    /// Returns the inner stream.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Goes on with another stream.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Hashing<T> {
        Hashing { inner: change(self.inner), hash: self.hash, length: self.length }
    }

    /// Returns the inner stream, the digest and the number of bytes that passed.
    pub fn finish(self) -> (S, Digest, u64) {
        (self.inner, Digest(self.hash.finalize().into()), self.length)
    }

    fn record(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.record(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.record(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn prints_and_parses() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let upper = EMPTY.replace('e', "E");
        for (text, expected) in [
            ("abc", "digest `abc` has no algorithm; expected `sha256:<64 hex digits>`"),
            ("sha512:abc", "digest algorithm `sha512` is not supported; only sha256 is"),
            ("sha256:abc", "digest `abc` is not 64 lower-case hexadecimal digits"),
        ] {
            assert_eq!(text.parse::<Digest>().unwrap_err().to_string(), expected);
        }
        assert!(upper.parse::<Digest>().is_err());
    }

    #[test]
    fn hashing_counts_what_was_written() {
        let mut hashing = Hashing::new(Vec::new());
        hashing.write_all(b"hello ").unwrap();
        hashing.write_all(b"world").unwrap();
        let (bytes, digest, length) = hashing.finish();
        assert_eq!((bytes.as_slice(), digest, length), (b"hello world".as_slice(), Digest::of(b"hello world"), 11));
    }
}
