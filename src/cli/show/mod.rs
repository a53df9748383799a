//! How results look: rows, differences and explanations.

pub(crate) mod difference;
pub(crate) mod explain;
pub(crate) mod rows;
