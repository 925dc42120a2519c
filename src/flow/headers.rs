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
    fn remove_drops_every_duplicate() {
        let mut headers = sample();
        assert!(headers.remove("set-cookie"));
        assert!(!headers.remove("set-cookie"));
        assert_eq!(headers.len(), 2);
    }
}
