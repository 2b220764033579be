//! Queries: which page of the list, which variant of the content.

use crate::fields::Fields;
use crate::invalid::Invalid;
use reel_domain::{JobId, Variant};

/// Jobs on a page when the request does not say.
pub const LIST_LIMIT_DEFAULT: usize = 20;
/// Most jobs on a page.
pub const LIST_LIMIT_MAX: usize = 100;

/// Every parameter of a list.
const LIST_KNOWN: [&str; 3] = ["after", "limit", "order"];
/// Every parameter of a content request.
const CONTENT_KNOWN: [&str; 3] = ["variant", "expires", "signature"];

/// In which order jobs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortOrder {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// Which page of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListVideos {
    /// The last job of the page before.
    pub after: Option<JobId>,
    /// Most jobs to return, 1 to [`LIST_LIMIT_MAX`].
    pub limit: usize,
    /// The order.
    pub order: SortOrder,
}

impl ListVideos {
    /// Reads a query strictly.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_query(pairs: Vec<(String, String)>) -> Result<Self, Invalid> {
        let mut fields = Fields::from_text(pairs)?;
        fields.refuse_unknown(&LIST_KNOWN)?;
        let list = Self {
            after: after(&mut fields)?,
            limit: limit(&mut fields)?,
            order: order(&mut fields)?,
        };
        fields.refuse_rest(&LIST_KNOWN)?;
        Ok(list)
    }
}

fn after(fields: &mut Fields) -> Result<Option<JobId>, Invalid> {
    let text = fields.text("after")?;
    text.map(|text| text.parse())
        .transpose()
        .map_err(|error: reel_domain::ids::JobIdError| Invalid::value("after", error.to_string()))
}

fn limit(fields: &mut Fields) -> Result<usize, Invalid> {
    match fields.whole("limit")? {
        None => Ok(LIST_LIMIT_DEFAULT),
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=LIST_LIMIT_MAX).contains(limit))
            .ok_or_else(|| {
                let message = format!("`limit` {limit} is outside 1..={LIST_LIMIT_MAX}");
                Invalid::value("limit", message)
            }),
    }
}

fn order(fields: &mut Fields) -> Result<SortOrder, Invalid> {
    match fields.text("order")?.as_deref() {
        None | Some("desc") => Ok(SortOrder::Desc),
        Some("asc") => Ok(SortOrder::Asc),
        Some(_) => Err(Invalid::value(
            "order",
            "`order` must be asc or desc".into(),
        )),
    }
}

/// The query of a content request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentQuery {
    /// What is wanted.
    pub variant: Variant,
    /// What a signed URL has in place of a key: until when it holds, in seconds since the Unix epoch, and the
    /// signature.
    pub signed: Option<(u64, String)>,
}

impl ContentQuery {
    /// Reads a query strictly.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_query(pairs: Vec<(String, String)>) -> Result<Self, Invalid> {
        let mut fields = Fields::from_text(pairs)?;
        fields.refuse_unknown(&CONTENT_KNOWN)?;
        let signed = match (fields.whole("expires")?, fields.text("signature")?) {
            (Some(expires), Some(signature)) => Some((expires, signature)),
            (None, None) => None,
            (None, Some(_)) => return Err(Invalid::missing("expires")),
            (Some(_), None) => return Err(Invalid::missing("signature")),
        };
        let variant = variant(&mut fields)?;
        fields.refuse_rest(&CONTENT_KNOWN)?;
        Ok(Self { variant, signed })
    }
}

fn variant(fields: &mut Fields) -> Result<Variant, Invalid> {
    let Some(name) = fields.text("variant")? else {
        return Ok(Variant::Video);
    };
    let mut variants = Variant::ALL.into_iter();
    variants
        .find(|variant| variant.as_str() == name)
        .ok_or_else(|| {
            let message = "`variant` must be video, thumbnail or spritesheet";
            Invalid::value("variant", message.into())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, value: &str) -> Result<ListVideos, Invalid> {
        ListVideos::from_query(vec![(name.into(), value.into())])
    }

    #[test]
    fn an_empty_query_asks_for_the_newest_twenty() {
        let list = ListVideos::from_query(Vec::new()).unwrap();
        assert_eq!(
            (list.after, list.limit, list.order),
            (None, 20, SortOrder::Desc)
        );
    }

    #[test]
    fn wrong_queries_name_their_parameter() {
        for (name, value) in [
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "x"),
            ("order", "up"),
            ("after", "1"),
            ("page", "2"),
        ] {
            assert_eq!(query(name, value).unwrap_err().param.as_deref(), Some(name));
        }
    }
}
