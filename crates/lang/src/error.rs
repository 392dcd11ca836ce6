//! What is wrong with a text, and where.

use std::fmt;

/// A text that is not in the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// What is wrong: lower case, no period.
    pub message: String,
    /// Where, in characters from the beginning of the text.
    pub position: usize,
    /// The whole text.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl SyntaxError {
    pub(crate) fn new(message: impl Into<String>, position: usize) -> Self {
        Self { message: message.into(), position, text: String::new(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the error as one of a longer text in which its own begins at `offset`.
    pub(crate) fn within(mut self, text: &str, offset: usize) -> Self {
        self.position += offset;
        self.text = text.to_owned();
        self
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at position {}", self.message, self.position)?;
        // a caret means nothing below a text of several lines
        if !self.text.is_empty() && !self.text.contains('\n') {
            write!(f, "\n{}\n{:2$}^", self.text, "", self.position)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SyntaxError {}

/// An expression that has no value for an item: its values do not fit its operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// What is wrong: lower case, no period.
    pub message: String,
    /// The operator's or operand's place in the expression, in characters.
    pub position: usize,
}

impl EvalError {
    pub(crate) fn new(message: impl Into<String>, position: usize) -> Self {
        Self { message: message.into(), position }
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (position {} of the expression)", self.message, self.position)
    }
}

impl std::error::Error for EvalError {}
