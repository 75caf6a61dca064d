//! Compression of layers and archives: recognised by content, never by name.

use std::io::{self, BufReader, Cursor, Read, Write};

use flate2::{Compression as Level, GzBuilder, bufread::MultiGzDecoder, write::GzEncoder};

/// Level of the gzip we write. With zlib-rs, 4 takes half the time of the customary 6 and gives 3 % more bytes. Changing it changes the
/// digests of newly compressed layers (not of layers), so a layer that was pushed before would be pushed again.
const GZIP_LEVEL: u32 = 4;
const BUFFER_BYTES: usize = 128 * 1024;
const MAGIC_BYTES: usize = 6;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, possibly in several members.
    Gzip,
    /// RFC 8878, possibly in several frames.
    Zstd,
}

/// Why a stream cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// The stream itself fails.
    #[error("read the start of the stream")]
    Read(#[from] io::Error),
    /// Recognised, but not known to us.
    #[error("the stream is compressed with {0}, which is not supported; use gzip or zstd")]
    Unsupported(&'static str),
}

/// A stream whose first bytes were looked at and put back.
pub type Sniffed<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// Finds out how a stream is compressed.
pub fn sniff<R: Read>(mut reader: R) -> Result<(Compression, Sniffed<R>), DecompressError> {
    let mut start = Vec::with_capacity(MAGIC_BYTES);
    reader.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
    let compression = match start.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => return Err(DecompressError::Unsupported("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(DecompressError::Unsupported("xz")),
        _ => Compression::None,
    };
    Ok((compression, Cursor::new(start).chain(reader)))
}

/// Returns the decompressed stream.
pub fn decoder<'a>(compression: Compression, reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
    })
}

/// Sniffs and decompresses in one step.
pub fn decompress<'a>(reader: impl Read + 'a) -> Result<Box<dyn Read + 'a>, DecompressError> {
    let (compression, reader) = sniff(reader)?;
    Ok(decoder(compression, reader)?)
}

/// Starts a gzip stream whose bytes depend on its content only: no time, no name, no operating system.
pub fn gzip<W: Write>(writer: W) -> GzEncoder<W> {
    GzBuilder::new().mtime(0).operating_system(255).write(writer, Level::new(GZIP_LEVEL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut reader: impl Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_compressed_is_recognised_and_read_back() {
        let mut encoder = gzip(Vec::new());
        encoder.write_all(b"some text").unwrap();
        let gzipped = encoder.finish().unwrap();
        let zstd = zstd::encode_all(b"some text".as_slice(), 3).unwrap();
        for (bytes, expected) in [(gzipped, Compression::Gzip), (zstd, Compression::Zstd), (b"some text".to_vec(), Compression::None)] {
            let (compression, reader) = sniff(bytes.as_slice()).unwrap();
            assert_eq!(compression, expected);
            assert_eq!(read_all(decoder(compression, reader).unwrap()), b"some text");
        }
    }

    #[test]
    fn short_and_foreign_streams() {
        assert!(read_all(decompress(b"".as_slice()).unwrap()).is_empty());
        let error = decompress(b"\xfd7zXZ\0rest".as_slice()).err().unwrap();
        assert_eq!(error.to_string(), "the stream is compressed with xz, which is not supported; use gzip or zstd");
    }
}
