//! The three API families (OpenAI chat and responses, Anthropic messages): where text lives in a request, how many
//! tokens a reply reports, and the shape of an error. Pure functions.
//! Must never do I/O, decide a policy, or change a byte of what it reads.

mod chatgpt;
mod closing;
mod extract;
mod json;
mod refusal;
mod reply;

pub use crate::flow::Family;
pub use chatgpt::chatgpt_takes;
pub use closing::{closing, whole};
pub use extract::{Extracted, Segment, extract, model};
pub use json::{in_literal, is_json, literals};
pub use refusal::{Refused, refusal};
pub use reply::{Event, Kind, NAME_BYTES, closes, event};

impl Family {
    /// Every family that has a path of its own, in the order in which a list of paths is shown.
    pub const ALL: [Self; 7] = [
        Self::Chat,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
        Self::Completions,
        Self::Embeddings,
        Self::Models,
    ];

    /// The family of a path such as `/chat/completions`, with or without `/v1` before it; compared to the letter.
    pub fn from_path(path: &str) -> Option<Self> {
        let path = path.strip_prefix("/v1").unwrap_or(path);
        Self::ALL.into_iter().find(|family| family.path() == path)
    }

    /// The path below the provider's `api_base`, with the slash.
    pub fn path(self) -> &'static str {
        self.names().0
    }

    /// The word for it in the audit log.
    pub fn action(self) -> &'static str {
        self.names().1
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Chat => ("/chat/completions", "chat.completion"),
            Self::Responses => ("/responses", "responses"),
            Self::Messages => ("/messages", "messages"),
            Self::CountTokens => ("/messages/count_tokens", "count_tokens"),
            Self::Completions => ("/completions", "completions"),
            Self::Embeddings => ("/embeddings", "embeddings"),
            Self::Models => ("/models", "models"),
            Self::Other => ("", "passthrough"),
        }
    }

    /// The methods that are allowed.
    pub fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Models => &["GET"],
            Self::Other => &["GET", "POST"],
            _ => &["POST"],
        }
    }

    /// True where requests and errors have Anthropic's shape.
    pub fn is_anthropic(self) -> bool {
        matches!(self, Self::Messages | Self::CountTokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Numbers that look random and are the same in every run (splitmix64).
    pub(super) struct Dice(u64);

    impl Dice {
        pub(super) fn new(seed: u64) -> Self {
            Self(seed)
        }

        /// 0 to `end` - 1.
        pub(super) fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % end as u64) as usize
        }

        pub(super) fn pick<'p>(&mut self, from: &[&'p str]) -> &'p str {
            from[self.below(from.len())]
        }
    }

    /// Every recorded request of a family that is forwarded, with its reply.
    pub(super) fn recorded() -> Vec<(Family, Value)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/clients");
        let mut found = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|end| end == "json") {
                let recording: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
                for exchange in recording["exchanges"].as_array().unwrap() {
                    let path = exchange["path"].as_str().unwrap().split('?').next().unwrap();
                    found.push((Family::from_path(path).unwrap(), exchange.clone()));
                }
            }
        }
        assert!(found.len() >= 10);
        found
    }

    #[test]
    fn a_path_leads_to_its_family_with_and_without_v1() {
        for family in Family::ALL {
            assert_eq!(Family::from_path(family.path()), Some(family));
            let below_v1 = format!("/v1{}", family.path());
            assert_eq!(Family::from_path(&below_v1), Some(family));
        }
        for path in ["", "/", "/v1", "/v1/v1/models", "/Models", "/models/", "models", "/v1models"] {
            assert_eq!(Family::from_path(path), None, "{path}");
        }
    }
}
