//! The supported versions of the CNI specification.

use serde::{Deserialize, Serialize};

/// A version of the specification, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Version {
    /// 0.1.0; also what a configuration without a version means
    #[serde(rename = "0.1.0")]
    V0_1_0,
    /// 0.2.0
    #[serde(rename = "0.2.0")]
    V0_2_0,
    /// 0.3.0
    #[serde(rename = "0.3.0")]
    V0_3_0,
    /// 0.3.1
    #[serde(rename = "0.3.1")]
    V0_3_1,
    /// 0.4.0
    #[serde(rename = "0.4.0")]
    V0_4_0,
    /// 1.0.0
    #[serde(rename = "1.0.0")]
    V1_0_0,
    /// 1.1.0
    #[serde(rename = "1.1.0")]
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// As it is written in `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The newest: the version of an answer before the caller's version is known.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The answer to VERSION: one JSON document.
    pub fn supported() -> String {
        let all: Vec<_> = Self::ALL.iter().map(|version| version.as_str()).collect();
        serde_json::json!({ "cniVersion": Self::NEWEST.as_str(), "supportedVersions": all }).to_string()
    }

    /// Reads `cniVersion`. The empty text means 0.1.0, as in the first version of the specification; `None`: not supported.
    pub fn parse(text: &str) -> Option<Self> {
        let text = if text.is_empty() { Self::V0_1_0.as_str() } else { text };
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_read_as_it_is_written_and_no_other_is() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        assert_eq!(Version::parse(""), Some(Version::V0_1_0));
        for other in ["0", "1", "1.1", "1.1.0 ", "0.3.2", "9.9.9"] {
            assert_eq!(Version::parse(other), None, "{other:?}");
        }
        assert_eq!(Version::ALL.last(), Some(&Version::NEWEST));
        let list = r#"["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]"#;
        assert_eq!(Version::supported(), format!(r#"{{"cniVersion":"1.1.0","supportedVersions":{list}}}"#));
    }
}
