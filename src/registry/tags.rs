//! The tags of a repository (distribution-spec, "Listing Tags").

use std::collections::BTreeSet;

use serde::Deserialize;
use url::form_urlencoded;

use super::connection::{Connection, Request};
use super::error::Error;
use crate::reference::Repository;

/// How many tags are asked for at once. Registries may send fewer.
const PAGE: usize = 1000;
/// The largest page that is read, in bytes.
const PAGE_LIMIT: u64 = 8 << 20;
/// How many pages are read: more than the largest repositories have.
const PAGES: usize = 1000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// All tags, sorted.
pub(super) async fn tags(
    connection: &Connection,
    repository: &Repository,
) -> Result<Vec<String>, Error> {
    let subject = format!("the tags of `{repository}`");
    let mut query = format!("n={PAGE}");
    let (mut tags, mut asked) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let path = format!("tags/list?{query}");
        let request = Request::get(repository, &path, &subject);
        let (page, link) = connection.fetch_page(&request, PAGE_LIMIT).await?;
        let page: Page = serde_json::from_slice(&page)
            .map_err(|source| Error::Tags { repository: repository.to_string(), source })?;
        tags.extend(page.tags.unwrap_or_default());
        asked.insert(query);
        // Only the query of the link is used: it can't lead anywhere else.
        match link.as_deref().and_then(next_query) {
            Some(next) if asked.len() < PAGES && !asked.contains(&next) => query = next,
            Some(_) => {
                let host = repository.host().to_owned();
                return Err(Error::Endless { subject, host });
            }
            None => return Ok(tags.into_iter().collect()),
        }
    }
}

/// The query of the next page, from a `Link` header (RFC 8288).
fn next_query(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .any(|(name, value)| name.trim() == "rel" && value.trim().trim_matches('"') == "next");
    let query = target.split_once('?')?.1;
    let pairs = form_urlencoded::parse(query.as_bytes());
    let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    is_next.then_some(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_query_of_a_link_counts() {
        for (link, expected) in [
            ("</v2/a/tags/list?last=b&n=2>; rel=\"next\"", Some("last=b&n=2")),
            ("<https://evil.example/x?last=a%2Fb>;rel=next", Some("last=a%2Fb")),
            ("</v2/a/tags/list?last=b>; rel=\"prev\"", None),
            ("</v2/a/tags/list>; rel=\"next\"", None),
            ("garbage", None),
        ] {
            assert_eq!(next_query(link).as_deref(), expected);
        }
    }
}
