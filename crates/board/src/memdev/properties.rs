//! Properties as they are given: `type,id=m0,size=64M,share=on`, or QMP's JSON, already taken apart.
//!
//! What it is not: the meaning of any property; see [`spec`](super::spec) and [`dimm`](super::dimm).

use super::error::ObjectError;
use crate::size::parse_size;

/// One value, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Text of a command line, to be read as the property needs it.
    Text(String),
    /// JSON's `true` and `false`.
    Bool(bool),
    /// A JSON number.
    Integer(i128),
    /// A JSON string.
    String(String),
    /// A JSON list of numbers; `None` for an element that is none.
    List(Vec<Option<i128>>),
    /// JSON of another kind.
    Other,
}

/// An object's or device's properties, in the order given; of one that stands twice the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, Given)>);

/// Whether a text is an identifier.
fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// Splits at commas; two of them in a row are one that belongs to the text.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != ',' {
            if let Some(part) = parts.last_mut() {
                part.push(c);
            }
        } else if chars.next_if_eq(&',').is_some() {
            if let Some(part) = parts.last_mut() {
                part.push(',');
            }
        } else {
            parts.push(String::new());
        }
    }
    parts
}

impl Properties {
    /// Reads `[first=]value,name=value,…`, where `first` is the name of the value that may stand without one. A name alone
    /// means `on`.
    pub fn of_text(first: &str, text: &str) -> Properties {
        let mut properties = Properties::default();
        for (position, part) in split(text).into_iter().enumerate() {
            match part.split_once('=') {
                Some((name, value)) => properties.set(name, Given::Text(value.to_owned())),
                None if position == 0 => properties.set(first, Given::Text(part)),
                None if part.is_empty() => {}
                None => properties.set(&part, Given::Text("on".to_owned())),
            }
        }
        properties
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: Given) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value));
    }

    /// A property's value as text, left where it is.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).and_then(|(_, value)| match value {
            Given::Text(text) | Given::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    fn take(&mut self, name: &str) -> Option<Given> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Takes a text.
    ///
    /// # Errors
    /// JSON of another type.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, ObjectError> {
        match self.take(name) {
            None => Ok(None),
            Some(Given::Text(text) | Given::String(text)) => Ok(Some(text)),
            Some(_) => Err(ObjectError::WrongType { name: name.to_owned(), what: "string" }),
        }
    }

    /// Takes an identifier.
    ///
    /// # Errors
    /// A text that is none.
    pub fn identifier(&mut self, name: &str) -> Result<Option<String>, ObjectError> {
        match self.string(name)? {
            Some(text) if !is_identifier(&text) => {
                Err(ObjectError::Expects { name: name.to_owned(), what: "an identifier" })
            }
            other => Ok(other),
        }
    }

    /// Takes `on` or `off`.
    ///
    /// # Errors
    /// Another text, or JSON of another type.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, ObjectError> {
        match self.take(name) {
            None => Ok(None),
            Some(Given::Bool(value)) => Ok(Some(value)),
            Some(Given::Text(text)) => match text.as_str() {
                "on" | "yes" | "true" | "y" => Ok(Some(true)),
                "off" | "no" | "false" | "n" => Ok(Some(false)),
                _ => Err(ObjectError::Expects { name: name.to_owned(), what: "'on' or 'off'" }),
            },
            Some(_) => Err(ObjectError::WrongType { name: name.to_owned(), what: "boolean" }),
        }
    }

    /// Takes a number of bytes: text may have a suffix.
    ///
    /// # Errors
    /// Another text, a negative number, or JSON of another type.
    pub fn size(&mut self, name: &str) -> Result<Option<u64>, ObjectError> {
        self.number(name, "a size value", &|text| parse_size(text, 0))
    }

    /// Takes a whole number of at least 0, decimal or hexadecimal.
    ///
    /// # Errors
    /// Another text, a negative number, or JSON of another type.
    pub fn unsigned(&mut self, name: &str) -> Result<Option<u64>, ObjectError> {
        self.number(name, "a number", &integer)
    }

    fn number(
        &mut self,
        name: &str,
        what: &'static str,
        read: &dyn Fn(&str) -> Option<u64>,
    ) -> Result<Option<u64>, ObjectError> {
        let expects = |what| ObjectError::Expects { name: name.to_owned(), what };
        match self.take(name) {
            None => Ok(None),
            Some(Given::Text(text)) => read(&text).map(Some).ok_or_else(|| expects(what)),
            Some(Given::Integer(value)) => u64::try_from(value).map(Some).map_err(|_| expects("uint64")),
            Some(_) => Err(expects("uint64")),
        }
    }

    /// Takes a whole number that may be negative.
    ///
    /// # Errors
    /// Another text, a number beyond 64 bits, or JSON of another type.
    pub fn signed(&mut self, name: &str) -> Result<Option<i64>, ObjectError> {
        let expects = || ObjectError::Expects { name: name.to_owned(), what: "integer" };
        match self.take(name) {
            None => Ok(None),
            Some(Given::Text(text)) => {
                let (digits, sign) = text.strip_prefix('-').map_or((text.as_str(), 1), |rest| (rest, -1));
                let value = integer(digits).and_then(|v| i64::try_from(v).ok()).ok_or_else(expects)?;
                Ok(Some(sign * value))
            }
            Some(Given::Integer(value)) => i64::try_from(value).map(Some).map_err(|_| expects()),
            Some(_) => Err(expects()),
        }
    }

    /// Takes a list of numbers: `0-2,,5` as text (a doubled comma, since a single one ends the property), or `name.0=…`.
    ///
    /// # Errors
    /// Another text, or JSON of another type.
    pub fn list(&mut self, name: &str) -> Result<Option<Vec<u32>>, ObjectError> {
        let expects = |name: String, what| ObjectError::Expects { name, what };
        let range = |text: &str| -> Option<Vec<u32>> {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            let (from, to) = (integer(from)?, integer(to)?);
            // A kernel has far fewer nodes; without an end this could be a list of 2^64.
            (from <= to && to < 1 << 16).then(|| (from..=to).filter_map(|v| u32::try_from(v).ok()).collect())
        };
        let mut all: Option<Vec<u32>> = None;
        match self.take(name) {
            None => {}
            Some(Given::Text(text)) => {
                let parts: Option<Vec<_>> = text.split(',').map(range).collect();
                let parts =
                    parts.ok_or_else(|| expects(name.to_owned(), "a list of numbers, such as 0-2"))?;
                all = Some(parts.concat());
            }
            Some(Given::List(values)) => {
                let numbers = values.into_iter().enumerate().map(|(n, value)| {
                    let value = value.and_then(|v| u32::try_from(v).ok());
                    value.ok_or_else(|| expects(format!("{name}[{n}]"), "uint64"))
                });
                all = Some(numbers.collect::<Result<_, _>>()?);
            }
            Some(_) => return Err(ObjectError::WrongType { name: name.to_owned(), what: "array" }),
        }
        for n in 0.. {
            let element = format!("{name}.{n}");
            let Some(value) = self.unsigned(&element)? else { break };
            let value = u32::try_from(value).map_err(|_| expects(element, "a number"))?;
            all.get_or_insert_default().push(value);
        }
        Ok(all)
    }

    /// What nobody took: an error that names the first.
    ///
    /// # Errors
    /// In the words for text, or those for JSON.
    pub fn end(self, kind: &'static str, known: impl FnOnce() -> String) -> Result<(), ObjectError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, Given::Text(_))) => Err(ObjectError::Invalid { name, kind, known: known() }),
            Some((name, _)) => Err(ObjectError::Unexpected(name)),
        }
    }

    /// The first property that nobody took.
    pub fn left(&self) -> Option<&str> {
        self.0.first().map(|(name, _)| name.as_str())
    }
}

fn integer(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_comma_is_one_that_belongs_to_the_text() {
        let mut p = Properties::of_text("qom-type", "file,mem-path=/tmp/a,,b=c,share,id=m");
        assert_eq!(p.string("qom-type").unwrap().as_deref(), Some("file"));
        assert_eq!(p.string("mem-path").unwrap().as_deref(), Some("/tmp/a,b=c"));
        assert_eq!(p.flag("share").unwrap(), Some(true));
        assert_eq!(p.identifier("id").unwrap().as_deref(), Some("m"));
        assert_eq!(p.left(), None);
    }

    #[test]
    fn lists_are_ranges_elements_or_json() {
        let list = |text: &str| Properties::of_text("t", text).list("n");
        assert_eq!(list("x,n=0").unwrap(), Some(vec![0]));
        assert_eq!(list("x,n=0-2,,5").unwrap(), Some(vec![0, 1, 2, 5]));
        assert_eq!(list("x,n.0=3,n.1=1").unwrap(), Some(vec![3, 1]));
        assert_eq!(list("x").unwrap(), None);
        for bad in ["x,n=", "x,n=2-1", "x,n=a", "x,n=0-99999999999", "x,n=-1"] {
            assert!(list(bad).is_err(), "{bad}");
        }
        let mut json = Properties::default();
        json.set("n", Given::List(vec![Some(1), None]));
        assert_eq!(json.list("n").unwrap_err().to_string(), "Parameter 'n[1]' expects uint64");
    }

    #[test]
    fn values_of_the_wrong_kind_get_the_words_of_qemu() {
        let mut p = Properties::of_text("t", "x,size=abc,share=maybe,id=1m,slot=x");
        assert_eq!(p.size("size").unwrap_err().to_string(), "Parameter 'size' expects a size value");
        assert_eq!(p.flag("share").unwrap_err().to_string(), "Parameter 'share' expects 'on' or 'off'");
        let id = p.identifier("id").unwrap_err();
        assert_eq!(id.to_string(), "Parameter 'id' expects an identifier");
        assert!(id.hint().unwrap().starts_with("Identifiers consist of letters"));
        assert_eq!(p.signed("slot").unwrap_err().to_string(), "Parameter 'slot' expects integer");
        let mut json = Properties::default();
        json.set("size", Given::Integer(-1));
        json.set("share", Given::String("on".to_owned()));
        assert_eq!(json.size("size").unwrap_err().to_string(), "Parameter 'size' expects uint64");
        assert_eq!(
            json.flag("share").unwrap_err().to_string(),
            "Invalid parameter type for 'share', expected: boolean"
        );
    }
}
