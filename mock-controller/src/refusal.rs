//! Refusals: what the server answers when it does not do what was asked.

use serde_json::{Value, json};

/// Media type of an error body.
pub(crate) const ERROR_MEDIA: &str = "application/vnd.org.midonet.Error-v1+json";

/// An answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `{"message": .., "code": ..}`.
    Error { status: u16, message: Option<String> },
    /// Status 400 with a list of fields that are wrong.
    Invalid(Vec<Violation>),
    /// A status without body: some refusals of 5.x say nothing.
    Bare(u16),
}

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    property: String,
    message: String,
}

impl Refusal {
    pub(crate) fn error(status: u16, message: impl Into<String>) -> Self {
        Self::Error { status, message: Some(message.into()) }
    }

    pub(crate) fn invalid(property: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { property: property.to_owned(), message: message.into() }])
    }

    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Error { status, .. } | Self::Bare(status) => *status,
            Self::Invalid(_) => 400,
        }
    }

    /// The body, where there is one.
    pub(crate) fn body(&self) -> Option<Value> {
        match self {
            Self::Error { status, message } => Some(json!({ "message": message, "code": status })),
            Self::Invalid(violations) => Some(json!({
                "message": "Validation error(s) found",
                "code": 400,
                "violations": violations.iter().map(|v| json!({ "property": v.property, "message": v.message })).collect::<Vec<_>>(),
            })),
            Self::Bare(_) => None,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error { status, message } => write!(f, "{status} {}", message.as_deref().unwrap_or_default()),
            Self::Invalid(violations) => {
                write!(f, "400")?;
                violations.iter().try_for_each(|v| write!(f, " {}: {};", v.property, v.message))
            }
            Self::Bare(status) => write!(f, "{status}"),
        }
    }
}

/// Collects violations, so that the answer to a request with three wrong fields names all three.
#[derive(Default)]
pub(crate) struct Checks(Vec<Violation>);

impl Checks {
    pub(crate) fn wrong(&mut self, property: &str, message: impl Into<String>) {
        self.0.push(Violation { property: property.to_owned(), message: message.into() });
    }

    pub(crate) fn require(&mut self, property: &str, present: bool) {
        if !present {
            self.wrong(property, "may not be null");
        }
    }

    /// A text of `least` to 255 characters.
    pub(crate) fn length(&mut self, property: &str, text: Option<&str>, least: usize) {
        if let Some(text) = text
            && !(least..=255).contains(&text.chars().count())
        {
            self.wrong(property, format!("size must be between {least} and 255"));
        }
    }

    pub(crate) fn finish(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::Invalid(self.0)) }
    }
}
