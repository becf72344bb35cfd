//! Encodes the topics dialect's answers.

use std::collections::BTreeMap;

use super::{extract::BaseUrl, wire};
use crate::{commands::topics::TopicPage, queries::topics::Topic};

/// The path of pictures.
pub(super) const PICTURES: &str = "/media/chat_img";
/// The name of the picture of a chat that has none of its own.
pub(super) const DEFAULT_PICTURE: &str = "default.png";

pub(super) fn chat(topic: Topic, BaseUrl(base): &BaseUrl) -> wire::Chat {
    let img = topic.img.as_deref().unwrap_or(DEFAULT_PICTURE);
    wire::Chat {
        id: topic.id,
        img: format!("{base}{PICTURES}/{img}"),
        creator: topic.username.unwrap_or_else(|| topic.creator.to_string()),
        description: topic.description,
        url: format!("/chat/{}/{}/", topic.category, topic.id),
        timestamp: topic.created_at,
        title: topic.title,
        room: topic.category,
    }
}

/// A page of a category's chats, with links to the pages beside it.
pub(super) fn page(page: TopicPage, category: &str, query: &str, base: &BaseUrl) -> wire::Page {
    let link = |number| page_url(&base.0, category, query, number);
    wire::Page {
        count: page.count,
        next: (page.number < page.pages).then(|| link(page.number + 1)),
        previous: (page.number > 1).then(|| link(page.number - 1)),
        results: page.topics.into_iter().map(|topic| chat(topic, base)).collect(),
    }
}

/// The URL of a page. It keeps the other parameters of the query, sorted by name; the first page has no `page`.
fn page_url(base: &str, category: &str, query: &str, number: u64) -> String {
    let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        parameters.entry(name.into_owned()).or_default().push(value.into_owned());
    }
    parameters.remove("page");
    if number > 1 {
        parameters.insert("page".to_owned(), vec![number.to_string()]);
    }
    let pairs = parameters.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{base}/api/chat/{category}/{mark}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_links_keep_other_query_parameters() {
        let link = |query, number| page_url("http://h:1", "films", query, number);
        assert_eq!(link("", 2), "http://h:1/api/chat/films/?page=2");
        assert_eq!(link("page=3&z=1&a=x%20y", 2), "http://h:1/api/chat/films/?a=x+y&page=2&z=1");
        assert_eq!(link("page=2", 1), "http://h:1/api/chat/films/");
    }
}
