//! The tags of a repository (distribution-spec, "Listing Tags").

use std::collections::BTreeSet;

use serde::Deserialize;
use url::form_urlencoded;

use super::connection::Connection;
use super::error::Error;
use super::request::{Request, Resource};
use crate::oci::reference::{Repository, is_tag};

/// How many tags to request per page. Registries may send fewer.
const PAGE: usize = 1000;
/// The size limit of a page, in bytes.
const PAGE_LIMIT: u64 = 8 << 20;
/// The size limit of all pages together, in bytes: enough for more than 100,000 tags.
const TOTAL_LIMIT: u64 = 64 << 20;
/// The limit on the number of pages, which is more than the largest repositories have.
const PAGES: usize = 1000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// Returns all tags, sorted. Names that are not valid tags are left out.
pub(super) async fn tags(
    connection: &Connection,
    repository: &Repository,
) -> Result<Vec<String>, Error> {
    let subject = format!("the tags of `{repository}`");
    let mut query = format!("n={PAGE}");
    let (mut tags, mut asked, mut total) = (BTreeSet::new(), BTreeSet::new(), 0);
    loop {
        let resource = Resource::Tags(query.clone());
        let request = Request::get(repository, &resource, &subject);
        let page = connection.fetch(&request, PAGE_LIMIT).await?;
        let links = page.links;
        total += page.bytes.len() as u64;
        if total > TOTAL_LIMIT {
            let host = repository.host().to_owned();
            return Err(Error::TooLarge { subject, host, limit: TOTAL_LIMIT });
        }
        let page: Page = serde_json::from_slice(&page.bytes)
            .map_err(|source| Error::Tags { repository: repository.to_string(), source })?;
        tags.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)));
        asked.insert(query);
        // Use only the query of the link, so that it can't lead to another server.
        match next_query(&links) {
            Some(next) if asked.len() < PAGES && !asked.contains(&next) => query = next,
            Some(_) => {
                let host = repository.host().to_owned();
                return Err(Error::Endless { subject, host });
            }
            None => return Ok(tags.into_iter().collect()),
        }
    }
}

/// Returns the query of the next page from the `Link` headers of this one.
pub(super) fn next_query(headers: &[String]) -> Option<String> {
    headers.iter().find_map(|links| next_of(links))
}

/// Returns the query of the next page from a `Link` header with one or several links (RFC
/// 8288).
fn next_of(links: &str) -> Option<String> {
    let (target, _) = links.split('<').skip(1).filter_map(|link| link.split_once('>')).find(
        |(_, parameters)| {
            parameters.split([';', ',']).filter_map(|parameter| parameter.split_once('=')).any(
                |(name, value)| name.trim() == "rel" && value.trim().trim_matches('"') == "next",
            )
        },
    )?;
    let query = target.split_once('?')?.1;
    let pairs = form_urlencoded::parse(query.as_bytes());
    Some(form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_query_of_a_link_counts() {
        for (link, expected) in [
            ("</v2/a/tags/list?last=b&n=2>; rel=\"next\"", Some("last=b&n=2")),
            ("<https://evil.example/x?last=a%2Fb>;rel=next", Some("last=a%2Fb")),
            ("</x?a=1>; rel=\"first\", </x?a=2>; rel=\"next\"", Some("a=2")),
            ("</v2/a/tags/list?last=b>; rel=\"prev\"", None),
            ("</v2/a/tags/list>; rel=\"next\"", None),
            ("garbage", None),
        ] {
            assert_eq!(next_of(link).as_deref(), expected);
        }
    }
}
