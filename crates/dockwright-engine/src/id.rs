//! Identities: 64 random hex digits, of which people use the first twelve.

/// Returns a new id.
pub fn random() -> String {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the kernel's random source is there");
        let id = hex::encode(bytes);
        // A short id that is all digits could be taken for a number, for example as a host name.
        if id[..12].bytes().any(|byte| byte.is_ascii_alphabetic()) {
            return id;
        }
    }
}

/// Returns the short form of an id.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
