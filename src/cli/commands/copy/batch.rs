//! Files that list several copies.

use std::path::Path;

use n2c::{Diagnose, Kind};
use serde::Deserialize;

use crate::cli::failure::Failure;
use crate::cli::hints::Hint;
use crate::cli::inputs;

/// Why a file doesn't list copies.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("invalid list of copies in `{file}`")]
    Shape {
        file: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("copy {number} in `{file}` has no {what}")]
    Empty { number: usize, file: String, what: &'static str },
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
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
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
    let copies: Vec<Names> = serde_json::from_slice(&text)
        .map_err(|source| Error::Shape { file: file.clone(), source })?;
    for (index, Names { sources, destinations }) in copies.iter().enumerate() {
        let is_empty = [(sources, "source"), (destinations, "destination")];
        if let Some((_, what)) = is_empty.into_iter().find(|(names, _)| names.is_empty()) {
            return Err(Error::Empty { number: index + 1, file, what }.into());
        }
    }
    Ok(copies)
}
