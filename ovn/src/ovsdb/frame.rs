//! Cuts a stream of bytes into JSON objects. OVSDB writes one object behind the other, without a length or a separator
//! (RFC 7047, section 4).
//!
//! # Guarantees
//! - No more than one message of the largest size is held.
//! - Bytes that are no JSON object are refused at the first one, not when the buffer is full.
//! - Each byte is looked at once, however small the pieces are in which it arrives.

use serde_json::Value as Json;

/// The largest message that is read, bytes: a list of some hundred thousand ports.
pub(super) const LARGEST: usize = 64 << 20;

/// The deepest nesting that is read. OVSDB needs eight.
const DEEPEST: usize = 64;

/// Bytes that were received, and how far they were looked at.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// All before this belong to one message that is not complete.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The length of the last message.
    length: usize,
}

impl Frames {
    /// What is received is appended here.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The length of the last message, bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The next message; none: it is not complete.
    ///
    /// # Errors
    /// What was received is no JSON object, or it is too large or too deep. Nothing that follows can be read.
    pub(super) fn next(&mut self) -> Result<Option<Json>, String> {
        while let Some(&byte) = self.bytes.get(self.seen) {
            self.seen += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' if self.depth > 0 || byte == b'{' => {
                    self.depth += 1;
                    if self.depth > DEEPEST {
                        return Err(format!("a message is nested more than {DEEPEST} deep"));
                    }
                }
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return self.complete().map(Some);
                    }
                }
                _ if self.depth > 0 => self.in_string = byte == b'"',
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => return Err(format!("a message begins with {:?}", char::from(byte))),
            }
        }
        if self.bytes.len() > LARGEST {
            return Err(format!("a message is larger than {LARGEST} bytes"));
        }
        Ok(None)
    }

    fn complete(&mut self) -> Result<Json, String> {
        let message = self.bytes.get(..self.seen).unwrap_or_default();
        let message = serde_json::from_slice(message).map_err(|error| format!("a message is no JSON: {error}"));
        self.bytes.drain(..self.seen);
        self.length = self.seen;
        self.seen = 0;
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// All messages of a stream that arrives in pieces of this size.
    fn cut(stream: &[u8], piece: usize) -> Result<Vec<Json>, String> {
        let (mut frames, mut messages) = (Frames::default(), Vec::new());
        for piece in stream.chunks(piece) {
            frames.buffer().extend_from_slice(piece);
            while let Some(message) = frames.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_are_cut_wherever_the_pieces_end() {
        let messages = [json!({"a": "}{\"\\"}), json!({"b": [[{"c": []}], "]"]}), json!({})];
        let stream = messages.each_ref().map(|message| format!("{message} \n")).concat();
        for piece in 1..=stream.len() {
            assert_eq!(cut(stream.as_bytes(), piece).as_deref(), Ok(&messages[..]), "pieces of {piece}");
        }
    }

    #[test]
    fn garbage_is_refused_at_once() {
        for garbage in ["[", "HTTP/1.1 400 Bad Request", "5", "\"", "}", "\u{0}", "{]", "{\"a\":}", "{\"a\" 5}"] {
            assert!(cut(garbage.as_bytes(), 1).is_err(), "{garbage:?}");
        }
        assert!(cut("{\"a\":".repeat(DEEPEST + 1).as_bytes(), 7).is_err(), "too deep");
    }

    #[test]
    fn a_message_that_never_ends_is_refused() {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(b"{\"a\":\"");
        let piece = vec![b'x'; 1 << 20];
        let mut pieces = 0;
        while frames.next().is_ok() {
            frames.buffer().extend_from_slice(&piece);
            pieces += 1;
            assert!(pieces < 100, "it would grow forever");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..20) {
            drop(cut(&bytes, piece));
        }

        #[test]
        fn no_text_of_json_s_alphabet_makes_it_panic(text in r#"[{}\[\]",:\\0-9a ]{0,120}"#, piece in 1_usize..20) {
            drop(cut(text.as_bytes(), piece));
        }
    }
}
