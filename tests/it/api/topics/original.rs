//! Sends the same requests to the dialect's original and to Roomcast.

use tests::{
    cluster::{Cluster, SECRET, Size},
    original::{Original, compare},
};

#[tokio::test]
async fn topic_answers_equal_those_of_the_original() {
    let original = Original::start("topics").await;
    let cluster = Cluster::start(Size::default()).await;
    let base = |address: String| format!("http://{address}");
    let arguments = vec![base(original.address()), base(cluster.api[0].address()), SECRET.to_owned()];
    let output = compare("compare_topics.py", arguments).await;
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}{}", original.tail());
}
