//! How results look: rows, differences and explanations.

pub(crate) mod built;
pub(crate) mod difference;
pub(crate) mod explain;
pub(crate) mod rows;
pub(crate) mod table;
