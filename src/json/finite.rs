//! Finds numbers that are not finite (NaN, infinity). JSON cannot express them, and its writer replaces them by `null`.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

/// # Errors
/// Where the first such number is.
pub(super) fn check<T: Serialize + ?Sized>(value: &T) -> Result<(), String> {
    value.serialize(Look).map_err(|fault| fault.to_string())
}

/// Visits a value and writes nothing.
#[derive(Clone, Copy)]
struct Look;

/// The fault, and the fields that lead to it, the innermost first.
#[derive(Debug)]
struct Fault {
    what: String,
    fields: Vec<&'static str>,
}

impl Fault {
    fn within(mut self, field: &'static str) -> Self {
        self.fields.push(field);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.fields.is_empty() {
            let path: Vec<&str> = self.fields.iter().rev().copied().collect();
            write!(f, "{}: ", path.join("."))?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { what: text.to_string(), fields: Vec::new() }
    }
}

type Found = Result<(), Fault>;

fn number(number: f64) -> Found {
    if number.is_finite() {
        return Ok(());
    }
    let what = format!("{number} is no number in JSON; give null or a text in its place");
    Err(Fault { what, fields: Vec::new() })
}

/// Values that contain no such number.
macro_rules! harmless {
    ($($method:ident: $type:ty;)+) => {
        $(fn $method(self, _: $type) -> Found {
            Ok(())
        })+
    };
}

impl Serializer for Look {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    harmless! {
        serialize_bool: bool;
        serialize_i8: i8;
        serialize_i16: i16;
        serialize_i32: i32;
        serialize_i64: i64;
        serialize_i128: i128;
        serialize_u8: u8;
        serialize_u16: u16;
        serialize_u32: u32;
        serialize_u64: u64;
        serialize_u128: u128;
        serialize_char: char;
        serialize_str: &str;
        serialize_bytes: &[u8];
        serialize_unit_struct: &'static str;
    }

    fn serialize_f32(self, value: f32) -> Found {
        number(value.into())
    }

    fn serialize_f64(self, value: f64) -> Found {
        number(value)
    }

    fn serialize_none(self) -> Found {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Found {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Found {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Found {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Found {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Found {
        value.serialize(self).map_err(|fault| fault.within(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Fault> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Fault> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Fault> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Fault> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Fault> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Fault> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Fault> {
        Ok(self)
    }
}

/// Lists of values.
macro_rules! list {
    ($($trait:ident::$method:ident;)+) => {
        $(impl ser::$trait for Look {
            type Ok = ();
            type Error = Fault;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Found {
                value.serialize(*self)
            }

            fn end(self) -> Found {
                Ok(())
            }
        })+
    };
}

list! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

/// Values with the names of their fields.
macro_rules! fields {
    ($($trait:ident;)+) => {
        $(impl ser::$trait for Look {
            type Ok = ();
            type Error = Fault;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, field: &'static str, value: &T) -> Found {
                value.serialize(*self).map_err(|fault| fault.within(field))
            }

            fn end(self) -> Found {
                Ok(())
            }
        })+
    };
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for Look {
    type Ok = ();
    type Error = Fault;

    /// The JSON writer itself refuses such a number as a key.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Found {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Found {
        value.serialize(*self)
    }

    fn end(self) -> Found {
        Ok(())
    }
}
