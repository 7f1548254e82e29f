//! Choices that look random and come again: of a seed in a test, of the bytes that a fuzzer tries in `fuzz/`.

/// Where choices come from.
pub enum Dice {
    /// splitmix64.
    Seed(u64),
    /// Each choice takes the next byte; behind the last one all are 0, so that what is made of few bytes is small.
    Bytes(std::vec::IntoIter<u8>),
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self::Seed(seed)
    }

    pub fn of(bytes: &[u8]) -> Self {
        Self::Bytes(Vec::from(bytes).into_iter())
    }

    pub fn roll(&mut self) -> u64 {
        match self {
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
            Self::Bytes(bytes) => bytes.next().unwrap_or_default().into(),
        }
    }

    /// 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        let mut choice = self.roll();
        if end > 256 && matches!(self, Self::Bytes(_)) {
            choice = choice << 8 | self.roll();
        }
        (choice % end as u64) as usize
    }

    pub fn pick<'p>(&mut self, from: &[&'p str]) -> &'p str {
        from[self.below(from.len())]
    }

    /// What no choice was made of yet; of a seed there is nothing.
    pub fn rest(self) -> Vec<u8> {
        match self {
            Self::Seed(_) => Vec::new(),
            Self::Bytes(bytes) => bytes.collect(),
        }
    }

    /// The same JSON, with some characters of its strings written as escapes.
    pub fn escaped(&mut self, json: &str) -> String {
        let (mut out, mut in_string, mut escape) = (String::new(), false, 0_u8);
        for c in json.chars() {
            let plain = in_string && escape == 0 && !"\"\\".contains(c);
            if plain && self.below(6) == 1 {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| out += &format!("\\u{unit:04x}"));
            } else {
                out.push(c);
            }
            in_string ^= c == '"' && escape == 0;
            // How many characters of an escape are to come; `\u` has four more.
            escape = match (escape, c) {
                (0, '\\') if in_string => 5,
                (5, 'u') => 4,
                (5, _) => 0,
                _ => escape.saturating_sub(1),
            };
        }
        out
    }

    /// A few bytes changed, removed, repeated or put in.
    pub fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(4) {
                0 if at < bytes.len() => bytes[at] = self.roll() as u8,
                1 => bytes.truncate(at),
                2 => {
                    let again = bytes[at..].to_vec();
                    bytes.extend(again);
                }
                _ => bytes.insert(at.min(bytes.len()), self.roll() as u8),
            }
        }
        bytes
    }

    /// The same bytes in pieces.
    pub fn cut<'b>(&mut self, mut bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let most = [1024, 64, 8, 2][self.below(4)];
            let (piece, rest) = bytes.split_at((most - self.below(most)).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}
