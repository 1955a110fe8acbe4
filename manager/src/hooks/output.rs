//! What a hook prints: cut into lines, secrets hidden, the first part kept, the rest counted.

use serde::{Deserialize, Serialize};

/// Longest line that is read as one; the rest of it is counted.
const LONGEST_READ: usize = 8192;
/// Longest line that is shown.
const LONGEST_SHOWN: usize = 1024;
/// Bytes of all lines that are kept.
const KEPT: usize = 16 * 1024;

/// What a hook printed on stdout and stderr, as far as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Lines, without control characters, in order of arrival.
    pub lines: Vec<String>,
    /// Bytes that are not kept.
    pub dropped_bytes: u64,
}

/// Collects the output of one hook.
#[derive(Debug)]
pub(super) struct Collector {
    secrets: Vec<String>,
    output: Output,
    kept: usize,
}

/// A stream that is being cut into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    too_long: u64,
}

impl Collector {
    /// Nothing collected yet; `secrets` are hidden.
    pub(super) fn new(secrets: Vec<String>) -> Self {
        Self {
            secrets,
            output: Output::default(),
            kept: 0,
        }
    }

    /// Takes a block of a stream, and tells every line that is kept.
    pub(super) fn take(&mut self, lines: &mut Lines, block: &[u8], say: &dyn Fn(&str)) {
        let mut rest = block;
        loop {
            if self.is_full() {
                // A flood is counted, not searched for line ends.
                self.output.dropped_bytes += rest.len() as u64;
                return;
            }
            let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                break;
            };
            let (line, after) = rest.split_at(end);
            lines.push(line);
            self.finish(lines, say);
            rest = after.get(1..).unwrap_or_default();
        }
        lines.push(rest);
    }

    /// Ends the line that a stream has begun.
    pub(super) fn finish(&mut self, lines: &mut Lines, say: &dyn Fn(&str)) {
        let line = std::mem::take(lines);
        self.output.dropped_bytes += line.too_long;
        if self.is_full() {
            self.output.dropped_bytes += line.line.len() as u64;
            return;
        }
        let mut text = String::from_utf8_lossy(&line.line).into_owned();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), "***");
        }
        let text = text.trim_end_matches('\r');
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            if shown.len() >= LONGEST_SHOWN {
                self.output.dropped_bytes += (text.len() - shown.len().min(text.len())) as u64;
                shown.push_str("..");
                break;
            }
            if c.is_control() && c != '\t' {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
        }
        if shown.is_empty() {
            return;
        }
        say(&shown);
        self.kept += shown.len() + 1;
        self.output.lines.push(shown);
    }

    fn is_full(&self) -> bool {
        self.kept >= KEPT
    }

    /// What was collected.
    pub(super) fn into_output(self) -> Output {
        self.output
    }
}

impl Lines {
    fn push(&mut self, part: &[u8]) {
        let room = LONGEST_READ.saturating_sub(self.line.len());
        let (taken, left) = part.split_at(part.len().min(room));
        self.line.extend_from_slice(taken);
        self.too_long += left.len() as u64;
    }

    /// A line has begun and not ended.
    pub(super) fn is_begun(&self) -> bool {
        !self.line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(secrets: &[&str], blocks: &[&[u8]]) -> Output {
        let mut collector = Collector::new(secrets.iter().map(|s| (*s).to_owned()).collect());
        let mut lines = Lines::default();
        for block in blocks {
            collector.take(&mut lines, block, &|_| {});
        }
        if lines.is_begun() {
            collector.finish(&mut lines, &|_| {});
        }
        collector.into_output()
    }

    #[test]
    fn blocks_become_lines() {
        let table: [(&[&[u8]], &[&str]); 5] = [
            (&[b"one\ntwo\n"], &["one", "two"]),
            (&[b"o", b"ne\nt", b"wo"], &["one", "two"]),
            (&[b"one\r\n\n\ntwo"], &["one", "two"]),
            (
                &[b"red \x1b[31m\x07 tab\t\xff"],
                &["red \\u{1b}[31m\\u{7} tab\t\u{fffd}"],
            ),
            (&[], &[]),
        ];
        for (blocks, expected) in table {
            assert_eq!(collect(&[], blocks).lines, expected);
        }
    }

    #[test]
    fn secrets_are_hidden_also_across_blocks() {
        let output = collect(&["s3cret"], &[b"password s3c", b"ret and s3cret\n"]);
        assert_eq!(output.lines, ["password *** and ***"]);
    }

    #[test]
    fn a_secret_across_the_end_of_what_is_shown_is_hidden() {
        let mut line = vec![b'x'; LONGEST_SHOWN - 3];
        line.extend(b"s3cret\n");
        let output = collect(&["s3cret"], &[&line]);
        assert!(!output.lines[0].contains("s3"), "{}", output.lines[0]);
    }

    #[test]
    fn floods_are_counted_and_not_kept() {
        let block = b"0123456789abcdef\n".repeat(1000);
        let blocks: Vec<&[u8]> = vec![block.as_slice(); 1000];
        let output = collect(&[], &blocks);
        let kept: usize = output.lines.iter().map(|l| l.len() + 1).sum();
        assert!(kept < KEPT + 17, "{kept}");
        assert_eq!(output.dropped_bytes + kept as u64, 17_000_000);

        let endless = collect(&[], &[&vec![b'x'; 1_000_000]]);
        assert_eq!(endless.lines.len(), 1);
        assert_eq!(endless.lines[0].len(), LONGEST_SHOWN + 2);
        assert_eq!(endless.dropped_bytes, 1_000_000 - LONGEST_SHOWN as u64);
    }
}
