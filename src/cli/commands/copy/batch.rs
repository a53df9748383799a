//! Files that list several copies.

use std::path::Path;

use n2c::{Diagnose, Kind};
use serde_json::{Map, Value};

use crate::cli::failure::Failure;
use crate::cli::hints::Hint;
use crate::cli::inputs;

/// Why a file doesn't list copies. No value is shown: a name may hold a password by mistake.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("`{file}` is not JSON: line {line}, column {column}")]
    NotJson { file: String, line: usize, column: usize },
    #[error("`{file}` lists no copies")]
    NoCopies { file: String },
    #[error("copy {number} in `{file}` has {problem}")]
    Copy { file: String, number: usize, problem: String },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        Some(
            "write `[{\"sources\": [\"nix:image.json\"], \"destinations\": [\"docker://…\"]}]`"
                .into(),
        )
    }
}

/// What is copied where, by the names that users give.
pub(super) struct Names {
    /// One image, or several that become one for several platforms.
    pub(super) sources: Vec<String>,
    /// All of these get it.
    pub(super) destinations: Vec<String>,
}

/// Reads a list of copies.
pub(super) fn read(path: &Path) -> Result<Vec<Names>, Failure> {
    let file = path.display().to_string();
    let text = inputs::read(path)?;
    let list: Value = serde_json::from_slice(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Error::NotJson { file: file.clone(), line, column }
    })?;
    let copies = list.as_array().filter(|copies| !copies.is_empty());
    let copies = copies.ok_or_else(|| Error::NoCopies { file: file.clone() })?;
    let read = |(index, copy): (usize, &Value)| {
        names(copy).map_err(|problem| {
            let (file, number) = (file.clone(), index + 1);
            Error::Copy { file, number, problem }.into()
        })
    };
    copies.iter().enumerate().map(read).collect()
}

/// Reads a copy, or says what is wrong with it.
fn names(copy: &Value) -> Result<Names, String> {
    let object = copy.as_object().ok_or("another shape than an object")?;
    let known = ["sources", "destinations"];
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("the unknown key `{}`", key.escape_default()));
    }
    let [sources, destinations] = known.map(|key| list(object, key));
    Ok(Names { sources: sources?, destinations: destinations? })
}

fn list(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let problem = || format!("no list of names as `{key}`");
    let values = object.get(key).and_then(Value::as_array).filter(|values| !values.is_empty());
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(problem);
    values.ok_or_else(problem)?.iter().map(text).collect()
}
