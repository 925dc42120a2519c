//! Names with values, in order, names possibly several times: queries, forms, cookies.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

/// A multi-map of bytes. Names are case-sensitive, order and duplicates are kept, and where a name has several
/// values [`get`](Self::get) gives the first.
///
/// Values are bytes because a query may encode any; text is what the methods take and, replacing what is no
/// UTF-8, give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiDict {
    fields: Vec<(Bytes, Bytes)>,
}

impl MultiDict {
    /// Of these pairs, in this order.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut dict = Self::default();
        pairs.into_iter().for_each(|(name, value)| dict.add(name, value));
        dict
    }

    /// All pairs, in order.
    pub fn fields(&self) -> &[(Bytes, Bytes)] {
        &self.fields
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// No pairs at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value of that name.
    pub fn first(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.fields.iter().find(|(key, _)| *key == name.as_ref()).map(|(_, value)| &value[..])
    }

    /// The first value of that name, as text.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<Cow<'_, str>> {
        self.first(name).map(String::from_utf8_lossy)
    }

    /// Every value of that name, as text, in order.
    pub fn get_all(&self, name: impl AsRef<[u8]>) -> Vec<Cow<'_, str>> {
        let of = self.fields.iter().filter(|(key, _)| *key == name.as_ref());
        of.map(|(_, value)| String::from_utf8_lossy(value)).collect()
    }

    /// Whether there is a pair of that name.
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.first(name).is_some()
    }

    /// Gives that name this value and no other, in the place of the first it had, or at the end.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.set_all(name, [value]);
    }

    /// Gives that name these values and no others: in the places of those it had, the rest at the end.
    pub fn set_all<V: AsRef<[u8]>>(&mut self, name: impl AsRef<[u8]>, values: impl IntoIterator<Item = V>) {
        let mut values = values.into_iter().map(|value| Bytes::copy_from_slice(value.as_ref()));
        self.fields.retain_mut(|(key, held)| {
            if *key != name.as_ref() {
                return true;
            }
            match values.next() {
                Some(value) => {
                    *held = value;
                    true
                }
                None => false,
            }
        });
        let name = Bytes::copy_from_slice(name.as_ref());
        self.fields.extend(values.map(|value| (name.clone(), value)));
    }

    /// Appends a pair.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.insert(self.fields.len(), name, value);
    }

    /// Puts a pair before the one at `index`, or at the end if there is none.
    pub fn insert(&mut self, index: usize, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let pair = (Bytes::copy_from_slice(name.as_ref()), Bytes::copy_from_slice(value.as_ref()));
        self.fields.insert(index.min(self.fields.len()), pair);
    }

    /// Removes every pair of that name; says whether there was one.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(key, _)| *key != name.as_ref());
        self.fields.len() != before
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.fields.clear();
    }

    /// All pairs as text, in order.
    pub fn items(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.fields
            .iter()
            .map(|(name, value)| (String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
    }
}

/// A [`MultiDict`] that stands for a part of a message: what is changed in it is written back to the message
/// when the view is dropped. A view that is only read changes nothing.
pub struct MultiDictView<'a, P> {
    parent: &'a mut P,
    dict: MultiDict,
    changed: bool,
    write_back: fn(&mut P, &MultiDict),
}

impl<'a, P> MultiDictView<'a, P> {
    pub(super) fn new(parent: &'a mut P, dict: MultiDict, write_back: fn(&mut P, &MultiDict)) -> Self {
        Self { parent, dict, changed: false, write_back }
    }
}

impl<P> Deref for MultiDictView<'_, P> {
    type Target = MultiDict;

    fn deref(&self) -> &MultiDict {
        &self.dict
    }
}

impl<P> DerefMut for MultiDictView<'_, P> {
    fn deref_mut(&mut self) -> &mut MultiDict {
        self.changed = true;
        &mut self.dict
    }
}

impl<P> Drop for MultiDictView<'_, P> {
    fn drop(&mut self) {
        if self.changed {
            (self.write_back)(self.parent, &self.dict);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_name_keep_their_places() {
        let mut dict = MultiDict::from_pairs([("a", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(dict.get("a").as_deref(), Some("1"));
        assert_eq!(dict.get_all("a"), ["1", "3"]);
        assert_eq!(dict.get("A"), None, "names are case-sensitive");
        dict.set_all("a", ["x", "y", "z"]);
        let pairs: Vec<_> = dict.items().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(pairs, ["a=x", "b=2", "a=y", "a=z"]);
        dict.set("a", "only");
        assert_eq!(dict.len(), 2);
        assert!(dict.remove("a") && !dict.remove("a"));
        dict.insert(0, "first", [0xff]);
        assert_eq!(dict.get("first").as_deref(), Some("\u{fffd}"));
        assert_eq!(dict.first("first"), Some(&[0xff][..]));
    }

    #[test]
    fn a_view_writes_back_only_what_was_changed() {
        let mut parent = Vec::new();
        let write = |parent: &mut Vec<usize>, dict: &MultiDict| parent.push(dict.len());
        assert!(MultiDictView::new(&mut parent, MultiDict::default(), write).is_empty());
        assert!(parent.is_empty());
        MultiDictView::new(&mut parent, MultiDict::default(), write).add("a", "b");
        assert_eq!(parent, [1]);
    }
}
