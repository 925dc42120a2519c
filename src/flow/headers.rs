//! Header fields as they came: bytes, case, order and duplicates kept.

use bytes::Bytes;

/// One header field line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Field name, case kept.
    pub name: Bytes,
    /// Field value without surrounding white space.
    pub value: Bytes,
}

/// A case-insensitive multi-map of header fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<Field>,
}

impl Headers {
    /// Headers of these fields, in this order.
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields }
    }

    /// Headers from name and value pairs.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let field = |(name, value): (N, V)| Field {
            name: Bytes::copy_from_slice(name.as_ref()),
            value: Bytes::copy_from_slice(value.as_ref()),
        };
        Self { fields: pairs.into_iter().map(field).collect() }
    }

    /// All fields, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Number of field lines.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// No fields at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value of that name.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|f| f.name.eq_ignore_ascii_case(name.as_bytes())).map(|f| &f.value[..])
    }

    /// Every value of that name, unfolded, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| &field.value[..])
    }

    /// Whether a field of that name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// All values of that name joined with `", "` (RFC 9110 §5.3), as text.
    pub fn get(&self, name: &str) -> Option<String> {
        let mut values = self.all(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let mut joined = values.next()?;
        for value in values {
            joined.push_str(", ");
            joined.push_str(&value);
        }
        Some(joined)
    }

    /// Replaces the first field of that name and drops the others; appends if there was none.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = Bytes::copy_from_slice(value.as_ref());
        let is = |field: &Field| field.name.eq_ignore_ascii_case(name.as_bytes());
        let Some(first) = self.fields.iter().position(is) else {
            self.fields.push(Field { name: Bytes::copy_from_slice(name.as_bytes()), value });
            return;
        };
        self.fields[first].value = value;
        let mut index = 0;
        self.fields.retain(|field| {
            index += 1;
            index - 1 <= first || !is(field)
        });
    }

    /// Appends a field, keeping any of the same name.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.fields.push(Field {
            name: Bytes::copy_from_slice(name.as_ref()),
            value: Bytes::copy_from_slice(value.as_ref()),
        });
    }

    /// Every value of that name, unfolded, as text: for `Set-Cookie` and other fields that cannot be folded.
    pub fn get_all(&self, name: &str) -> Vec<String> {
        self.all(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// Gives that name these values and no others: the first ones take the places (and the case) of the fields
    /// there were, the rest are appended, and fields that are left over go.
    pub fn set_all<V: AsRef<[u8]>>(&mut self, name: &str, values: impl IntoIterator<Item = V>) {
        let mut values = values.into_iter().map(|value| Bytes::copy_from_slice(value.as_ref()));
        self.fields.retain_mut(|field| {
            if !field.name.eq_ignore_ascii_case(name.as_bytes()) {
                return true;
            }
            match values.next() {
                Some(value) => {
                    field.value = value;
                    true
                }
                None => false,
            }
        });
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.fields.extend(values.map(|value| Field { name: name.clone(), value }));
    }

    /// Puts a field before the one at `index`, or at the end if there is none.
    pub fn insert(&mut self, index: usize, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let field = Field {
            name: Bytes::copy_from_slice(name.as_ref()),
            value: Bytes::copy_from_slice(value.as_ref()),
        };
        self.fields.insert(index.min(self.fields.len()), field);
    }

    /// Removes every field of that name and gives their folded value back.
    pub fn pop(&mut self, name: &str) -> Option<String> {
        let value = self.get(name);
        self.remove(name);
        value
    }

    /// Each name once, as it was first written, in order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let is_first = |index: usize, name: &[u8]| {
            !self.fields[..index].iter().any(|field| field.name.eq_ignore_ascii_case(name))
        };
        let names = self.fields.iter().enumerate();
        names.filter(move |(index, field)| is_first(*index, &field.name)).map(|(_, field)| &field.name[..])
    }

    /// The fields as HTTP/1 has them (RFC 9112 §5), each line with its end, without the empty line.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.cost());
        self.write_block(&mut out);
        out
    }

    /// Appends what [`to_bytes`](Self::to_bytes) gives.
    pub fn write_block(&self, out: &mut Vec<u8>) {
        for field in &self.fields {
            out.extend_from_slice(&field.name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(&field.value);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Removes every field of that name; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.fields.len();
        self.fields.retain(|field| !field.name.eq_ignore_ascii_case(name.as_bytes()));
        self.fields.len() != before
    }

    /// Bytes of memory the fields take, roughly.
    pub fn cost(&self) -> usize {
        self.fields.iter().map(|field| field.name.len() + field.value.len() + size_of::<Field>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Headers {
        Headers::from_pairs([("Host", "a"), ("Set-Cookie", "x=1"), ("set-cookie", "y=2"), ("Accept", "*/*")])
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        let headers = sample();
        assert_eq!(headers.first("HOST"), Some(&b"a"[..]));
        assert_eq!(headers.all("Set-Cookie").count(), 2);
        assert_eq!(headers.get("set-COOKIE").as_deref(), Some("x=1, y=2"));
        assert_eq!(headers.get("absent"), None);
    }

    #[test]
    fn set_keeps_the_first_place_and_name() {
        let mut headers = sample();
        headers.set("SET-COOKIE", "z=3");
        let names: Vec<_> = headers.fields().iter().map(|f| (&f.name[..], &f.value[..])).collect();
        assert_eq!(names, [(&b"Host"[..], &b"a"[..]), (b"Set-Cookie", b"z=3"), (b"Accept", b"*/*")]);
        headers.set("New", "1");
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn set_all_keeps_places_and_appends_what_is_left() {
        let mut headers = sample();
        headers.set_all("SET-COOKIE", ["a", "b", "c"]);
        assert_eq!(headers.get_all("set-cookie"), ["a", "b", "c"]);
        assert_eq!(&headers.fields()[4].name[..], b"SET-COOKIE");
        assert_eq!(&headers.fields()[1].name[..], b"Set-Cookie");
        headers.set_all("set-cookie", ["d"]);
        assert_eq!(headers.get_all("set-cookie"), ["d"]);
        assert_eq!(headers.len(), 3);
        headers.set_all("set-cookie", [""; 0]);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn insert_and_pop_keep_the_order_of_the_others() {
        let mut headers = sample();
        headers.insert(1, "X", "1");
        headers.insert(99, "Y", "2");
        let names: Vec<_> = headers.names().map(String::from_utf8_lossy).collect();
        assert_eq!(names, ["Host", "X", "Set-Cookie", "Accept", "Y"]);
        assert_eq!(headers.pop("set-cookie").as_deref(), Some("x=1, y=2"));
        assert_eq!(headers.pop("set-cookie"), None);
        assert_eq!(headers.to_bytes(), b"Host: a\r\nX: 1\r\nAccept: */*\r\nY: 2\r\n");
    }

    #[test]
    fn remove_drops_every_duplicate() {
        let mut headers = sample();
        assert!(headers.remove("set-cookie"));
        assert!(!headers.remove("set-cookie"));
        assert_eq!(headers.len(), 2);
    }
}
