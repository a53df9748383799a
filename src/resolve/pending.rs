//! Images whose manifest is here but whose config is still being fetched. That is
//! enough to start fetching their layers.

use std::future::Future;

use futures_util::future::BoxFuture;

use super::{Candidate, Error, Resolution};
use crate::oci::image::Image;
use crate::oci::manifest::{Document, ImageManifest};
use crate::oci::platform::Platform;

/// A manifest that is probably the right one. [`PendingImage::image`] finds out whether
/// it is, and what its config says.
pub struct PendingImage<'a> {
    manifest: ImageManifest,
    image: BoxFuture<'a, Result<Image, Error>>,
}

impl<'a> PendingImage<'a> {
    fn new(
        manifest: ImageManifest,
        image: impl Future<Output = Result<Image, Error>> + Send + 'a,
    ) -> Self {
        Self { manifest, image: Box::pin(image) }
    }

    /// Wraps an image that is already complete.
    #[must_use]
    pub fn ready(image: Image) -> Self {
        Self::new(image.manifest().clone(), async { Ok(image) })
    }

    /// Returns the manifest, and a future for the image that it belongs to.
    pub fn into_parts(
        self,
    ) -> (ImageManifest, impl Future<Output = Result<Image, Error>> + Send + 'a) {
        (self.manifest, self.image)
    }

    /// Waits for the image.
    pub async fn image(self) -> Result<Image, Error> {
        self.image.await
    }
}

impl Resolution<'_> {
    /// Returns the image if the location is the digest of a single manifest. Whatever
    /// its platform, it is the image that was meant.
    #[must_use]
    pub fn only(&self) -> Option<PendingImage<'_>> {
        if self.by_digest { self.sole() } else { None }
    }

    /// Returns the image if the location is a single manifest, whatever its platform.
    #[must_use]
    pub fn sole(&self) -> Option<PendingImage<'_>> {
        match &self.root {
            Document::Manifest(manifest) => {
                let image = self.with_config(&self.subject, manifest.clone());
                Some(PendingImage::new(manifest.clone(), image))
            }
            Document::Index(_) => None,
        }
    }

    /// Returns the image for `wanted` as soon as its manifest is known.
    pub async fn pending<'s>(&'s self, wanted: &'s Platform) -> Result<PendingImage<'s>, Error> {
        match &self.root {
            // Only the config says which platform it was built for.
            Document::Manifest(manifest) => {
                Ok(PendingImage::new(manifest.clone(), self.image(wanted)))
            }
            Document::Index(_) => self.fetch(self.choose(wanted).await?).await,
        }
    }

    /// Fetches the manifest of an image, unless the image is already here.
    pub(super) async fn fetch(&self, chosen: Candidate) -> Result<PendingImage<'_>, Error> {
        if let Some(image) = chosen.image {
            return Ok(PendingImage::ready(image));
        }
        let served = self.source.child(&chosen.descriptor).await?;
        let subject = self.child_subject(&chosen.descriptor);
        let Document::Manifest(manifest) =
            Document::parse(&subject, served.raw, served.content_type.as_deref())?
        else {
            let (subject, descriptor) = (self.subject.clone(), chosen.descriptor);
            return Err(Error::NotAManifest { subject, descriptor });
        };
        Ok(PendingImage::new(manifest.clone(), async move {
            let image = self.with_config(&subject, manifest).await?;
            self.compare_platform(&subject, &chosen.platform, &image);
            Ok(image)
        }))
    }
}
