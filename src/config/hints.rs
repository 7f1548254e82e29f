//! What texts for people hold: commands for the user that they are shown to, and the known word that is nearest to a mistyped one.
//! Must never give a user the commands of another one, or offer a word that is not among the known ones.

use super::Settings;

/// A word from this length on, in bytes, may be meant for a longer one that holds it.
const PART_BYTES: usize = 4;
/// What the commands begin with that are about one user's own.
const PERSONAL: [&str; 5] =
    ["infershield auth ", "infershield key ", "infershield env ", "infershield allow ", "infershield audit show"];

impl Settings {
    /// A text for this user: commands in it that are about somebody's logins or keys say whose, unless they are the default user's.
    pub fn for_user(&self, user: &str, text: &str) -> String {
        let is_plain = |c: char| c.is_alphanumeric() || "@._-+".contains(c);
        // As a shell reads it.
        let flag = match user {
            user if user == self.default_user => String::new(),
            user if user.chars().all(is_plain) => format!(" --user {user}"),
            user => format!(" --user '{}'", user.replace('\'', r"'\''")),
        };
        let is_open = |part: &str| PERSONAL.iter().any(|start| part.starts_with(start)) && !part.contains(" --user ");
        let parts = text.split('`').map(|part| if is_open(part) { format!("{part}{flag}") } else { part.to_owned() });
        parts.collect::<Vec<_>>().join("`")
    }
}

/// "; did you mean `…`?" with the member of `known` that is nearest to `word`, when it is near enough to be meant; else nothing.
/// The last word of a name may stand for it: `login` for `auth login`.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |known: &str| {
        let last = known.rsplit(' ').next().unwrap_or_default();
        // A longer name of which a part was left out is as near as one with a wrong letter.
        let left_out = if word.len() >= PART_BYTES && known.contains(word) { 1 } else { usize::MAX };
        edits(word, known).min(edits(word, last)).min(left_out)
    };
    match known.into_iter().map(|known| (distance(known), known)).min() {
        Some((edits, known)) if edits <= 1 + word.len() / 4 => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

/// Adds "did you mean" to serde's text about an unknown name, which lists the known ones between backquotes.
pub fn with_nearest(error: impl ToString) -> String {
    let error = error.to_string();
    let mut quoted = error.split('`').skip(1).step_by(2);
    match quoted.next().filter(|_| error.starts_with("unknown ")) {
        Some(word) => format!("{error}{}", did_you_mean(word, quoted)),
        None => error,
    }
}

/// Levenshtein's distance between two short words.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), diagonal) in b.chars().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or_default();
            next.push((diagonal + usize::from(from != to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_word_is_offered() {
        assert_eq!(did_you_mean("lisen", ["listen", "limits"]), "; did you mean `listen`?");
        assert_eq!(did_you_mean("zzz", ["listen", "limits"]), "");
        let error = serde_json::from_str::<Settings>(r#"{"lisen":1}"#).unwrap_err().to_string();
        assert!(with_nearest(&error).ends_with("did you mean `listen`?"), "{error}");
    }
}
