//! Questions to the operator, as MHA asks them: an answer that starts with y or Y is yes, everything else is no.

use std::io::{BufRead, IsTerminal, Write};

/// Somebody who can be asked.
pub trait Operator: Send {
    /// Asks a question whose default is no.
    fn confirm(&mut self, question: &str) -> bool;
    /// Asks for a line of text; empty if there is none.
    fn line(&mut self, question: &str) -> String;
}

/// The person at the terminal.
#[derive(Debug)]
pub struct Terminal;

impl Terminal {
    /// The terminal, if stdin is one.
    pub fn of_stdin() -> Option<Self> {
        std::io::stdin().is_terminal().then_some(Self)
    }
}

impl Operator for Terminal {
    fn confirm(&mut self, question: &str) -> bool {
        is_yes(&self.line(&format!("{question} (yes/NO): ")))
    }

    fn line(&mut self, question: &str) -> String {
        let mut err = std::io::stderr();
        let _ = write!(err, "{question}");
        let _ = err.flush();
        let mut answer = String::new();
        // A terminal that is gone has answered no.
        match std::io::stdin().lock().read_line(&mut answer) {
            Ok(_) => answer.trim().to_owned(),
            Err(_) => String::new(),
        }
    }
}

/// How an answer is read.
fn is_yes(answer: &str) -> bool {
    answer.trim_start().starts_with(['y', 'Y'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_is_yes() {
        for (answer, yes) in [
            ("y", true),
            ("YES", true),
            (" yes", true),
            ("", false),
            ("no", false),
            ("ok", false),
            ("1", false),
        ] {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }
}
