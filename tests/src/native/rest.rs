//! Creates, changes and reads rooms, messages and teams over REST.

use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{MessageView, Page, RoomView, TeamView, decode, id};
use crate::{client::Rest, paths};

impl Rest {
    /// Sends a `GET` that must succeed, and decodes the answer.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "GET {path}: {body}");
        decode(&body)
    }

    /// Sends a `GET` and decodes the answer; `None` unless the answer is 200.
    ///
    /// # Panics
    /// When an answer of 200 has another form.
    pub async fn try_read<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let (status, body) = self.get(path).await;
        (status == StatusCode::OK).then(|| decode(&body))
    }

    /// Sends a `POST` that must create something, and returns its id.
    ///
    /// # Panics
    /// When the answer is not 201.
    pub async fn create(&self, path: &str, body: Value) -> u64 {
        let (status, created) = self.post(path, body).await;
        assert_eq!(status, StatusCode::CREATED, "POST {path}: {created}");
        id(&created)
    }

    /// Creates a public room and returns its id.
    pub async fn create_room(&self, name: &str) -> u64 {
        self.create(paths::ROOMS, json!({ "name": name })).await
    }

    /// Creates public rooms, 32 at a time, and returns their ids.
    pub async fn create_rooms(&self, count: usize) -> Vec<u64> {
        let created = stream::iter(0..count).map(async |n| self.create_room(&n.to_string()).await);
        created.buffer_unordered(32).collect().await
    }

    /// Creates a private room named "board" with these members, and returns its id.
    pub async fn create_private_room(&self, users: &[&str]) -> u64 {
        self.create(paths::ROOMS, json!({ "name": "board", "private": true, "users": users })).await
    }

    /// Creates a room of a team and returns its id.
    pub async fn create_team_room(&self, name: &str, team: u64) -> u64 {
        self.create(paths::ROOMS, json!({ "name": name, "team": team })).await
    }

    /// Creates a team with these members and returns its id.
    pub async fn create_team(&self, name: &str, users: &[&str]) -> u64 {
        self.create(paths::TEAMS, json!({ "name": name, "users": users })).await
    }

    /// Invites a person to a room, and returns the invitation's id.
    pub async fn invite(&self, room: u64, user: &str) -> u64 {
        self.create(&paths::invitations(room), json!({ "user": user })).await
    }

    /// Sends a message and returns its id.
    pub async fn send_message(&self, room: u64, text: &str) -> u64 {
        self.create(&paths::messages(room), json!({ "message": text })).await
    }

    /// Sends messages with the texts "0", "1" and so on, one after the other, and returns their ids.
    pub async fn send_messages(&self, room: u64, count: usize) -> Vec<u64> {
        let mut ids = Vec::with_capacity(count);
        for n in 0..count {
            ids.push(self.send_message(room, &n.to_string()).await);
        }
        ids
    }

    /// Changes the text of a message.
    ///
    /// # Panics
    /// When the answer is not 2xx.
    pub async fn edit_message(&self, room: u64, message: u64, text: &str) {
        let (status, answer) = self.patch(&paths::message(room, message), json!({ "message": text })).await;
        assert!(status.is_success(), "message {message} is edited: {status} {answer}");
    }

    /// Deletes a message.
    ///
    /// # Panics
    /// When the answer is not 2xx.
    pub async fn delete_message(&self, room: u64, message: u64) {
        let (status, answer) = self.delete(&paths::message(room, message)).await;
        assert!(status.is_success(), "message {message} is deleted: {status} {answer}");
    }

    /// Adds a member to a room.
    ///
    /// # Panics
    /// When the answer is not 2xx.
    pub async fn add_member(&self, room: u64, user: &str) {
        let (status, answer) = self.put(&paths::member(room, user), Value::Null).await;
        assert!(status.is_success(), "{user} is added to room {room}: {status} {answer}");
    }

    /// Removes a member from a room.
    ///
    /// # Panics
    /// When the answer is not 2xx.
    pub async fn remove_member(&self, room: u64, user: &str) {
        let (status, answer) = self.delete(&paths::member(room, user)).await;
        assert!(status.is_success(), "{user} is removed from room {room}: {status} {answer}");
    }

    /// Closes a room.
    ///
    /// # Panics
    /// When the answer is not 2xx.
    pub async fn close_room(&self, room: u64) {
        let (status, answer) = self.delete(&paths::room(room)).await;
        assert!(status.is_success(), "room {room} is closed: {status} {answer}");
    }

    /// Reads a room.
    pub async fn room(&self, room: u64) -> RoomView {
        self.read(&paths::room(room)).await
    }

    /// Reads the newest rooms that the caller may enter.
    pub async fn rooms(&self) -> Vec<RoomView> {
        self.read::<Page<RoomView>>(paths::ROOMS).await.results
    }

    /// Reads a team.
    pub async fn team(&self, team: u64) -> TeamView {
        self.read(&paths::team(team)).await
    }

    /// Reads the newest messages of a room; `None` unless the answer is 200.
    pub async fn try_messages(&self, room: u64) -> Option<Vec<MessageView>> {
        self.try_read::<Page<MessageView>>(&paths::messages(room)).await.map(|page| page.results)
    }

    /// Reads the newest messages of a room, the oldest of them first.
    pub async fn messages(&self, room: u64) -> Vec<MessageView> {
        self.read::<Page<MessageView>>(&paths::messages(room)).await.results
    }

    /// Reads a page of a list.
    pub async fn page(&self, path: &str) -> Page {
        self.read(path).await
    }

    /// Reads a list to its end, page by page. `path` has a query already; `cursor` is the parameter that takes `next`.
    pub async fn pages(&self, path: &str, cursor: &str) -> Vec<Page> {
        let mut pages = vec![self.page(path).await];
        while let Some(next) = pages.last().and_then(|page| page.next.clone()) {
            pages.push(self.page(&format!("{path}&{cursor}={next}")).await);
        }
        pages
    }
}
