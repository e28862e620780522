//! Names of task types and queues, cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a task type or of a queue.
///
/// Any text can become a name: a `&str`, a `String` or an existing name. The text is copied once and then shared by
/// reference count. [`Name::of`] makes a name from text known at compile time, without a copy. Both kinds compare and
/// hash by their text.
///
/// ```
/// use callboard::{Board, BoardBuilder, Name};
///
/// const DOWNLOADS: Name = Name::of("downloads");
///
/// fn served(queue: &str) -> BoardBuilder {
///     Board::builder().queue(queue, 4).queue(DOWNLOADS, 2)
/// }
/// assert_eq!(Name::from(String::from("downloads")), DOWNLOADS);
/// # let _ = served("mail");
/// ```
#[derive(Clone)]
pub struct Name(Text);

#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

/// The longest name, in bytes: the size of the columns in which databases keep names.
pub(crate) const LONGEST_NAME: usize = 200;

/// Returns the reason if a name is invalid; `what` says what kind of name it is. One rule applies to all names, because
/// storage that cannot keep a name fails when it is asked for that name.
pub(crate) fn name_fault(what: &str, name: &str) -> Option<String> {
    // Each push checks two names, and nearly all names are printable ASCII. Such names skip the split into characters.
    let odd = name.bytes().fold(false, |odd, byte| odd | !matches!(byte, b' '..=b'~'));
    let control = odd && name.chars().any(char::is_control);
    (name.is_empty() || name.len() > LONGEST_NAME || control).then(|| {
        let shown: String = name.chars().take(40).collect();
        format!("{what} {shown:?} must have 1 to {LONGEST_NAME} bytes and no control characters")
    })
}

impl Name {
    /// A name from text known at compile time. It needs no allocation and may be a constant.
    pub const fn of(text: &'static str) -> Self {
        Self(Text::Static(text))
    }

    /// The name as text.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

// For any lifetime. With `&'static str` alone, passing a `&str` parameter would give a compiler error that does not
// mention names.
impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(Text::Shared(text.into()))
    }
}

impl From<&String> for Name {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(Text::Shared(text.into()))
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Self {
        name.clone()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

// Must agree with `str`'s own hash, because maps keyed by `Name` are searched with `&str` through `Borrow`.
impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
