//! One virtual host of the broker that `AMQP_URL` names, for one test.

use std::env;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{eventually, http};

const MADE_WITHIN: Duration = Duration::from_secs(90);

const LISTED_WITHIN: Duration = Duration::from_secs(20);

/// A virtual host of its own, deleted with all it holds when dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    /// The management API, with user and password in the URL.
    management: String,
    /// `amqp://user:password@host:port`
    server: String,
    vhost: String,
}

impl Broker {
    /// A new virtual host on the broker of `AMQP_URL`, through the management API at `RABBITMQ_MANAGEMENT_URL`.
    pub(crate) async fn new() -> Result<Self> {
        let read =
            |name| env::var(name).with_context(|| format!("{name} is not set: run scripts/test"));
        Self::at(&read("AMQP_URL")?, &read("RABBITMQ_MANAGEMENT_URL")?).await
    }

    /// A new virtual host on the broker at these addresses.
    pub(crate) async fn at(amqp_url: &str, management_url: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let (scheme, rest) = amqp_url
            .split_once("://")
            .context("AMQP_URL has no scheme")?;
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let broker = Self {
            management: management_url.trim_end_matches('/').to_owned(),
            server: format!("{scheme}://{authority}"),
            vhost: format!("it-{}-{number}", std::process::id()),
        };
        let user = authority.split([':', '@']).next().unwrap_or("guest");
        let client = http::client()?;
        // A cluster that has just come together may leave the first request without an answer; the second finds it done.
        eventually(MADE_WITHIN, "the virtual host to be made", async || {
            let made = broker.manage(&client, Method::PUT, "vhosts", "", &Value::Null);
            made.await.map(Some)
        })
        .await?;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        broker
            .manage(
                &client,
                Method::PUT,
                "permissions",
                &format!("/{user}"),
                &all,
            )
            .await?;
        Ok(broker)
    }

    /// The virtual host's name.
    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The AMQP URL of the virtual host.
    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.server, self.vhost)
    }

    /// The same virtual host reached through another address, a proxy's.
    pub(crate) fn url_through(&self, address: std::net::SocketAddr) -> String {
        let (before, _) = self
            .server
            .rsplit_once('@')
            .unwrap_or(("amqp://guest:guest", ""));
        format!("{before}@{address}/{}", self.vhost)
    }

    /// `host:port` of the broker.
    pub(crate) fn address(&self) -> &str {
        self.server
            .rsplit(['@', '/'])
            .next()
            .unwrap_or(&self.server)
    }

    /// Adds a user with these permissions on the virtual host and returns its AMQP URL; the user goes with the host.
    pub(crate) async fn add_user(
        &self,
        configure: &str,
        write: &str,
        read: &str,
    ) -> Result<String> {
        self.add_user_named("user", configure, write, read).await
    }

    /// The same for one of several; [`Broker::user`] tells its name on the broker.
    pub(crate) async fn add_user_named(
        &self,
        name: &str,
        configure: &str,
        write: &str,
        read: &str,
    ) -> Result<String> {
        let client = http::client()?;
        let name = self.set_password(name, "").await?;
        let permissions = json!({"configure": configure, "write": write, "read": read});
        self.manage(
            &client,
            Method::PUT,
            "permissions",
            &format!("/{name}"),
            &permissions,
        )
        .await?;
        Ok(self.url_as(&name, &name))
    }

    /// The name on the broker of a user of this virtual host: users are everybody's.
    pub(crate) fn user(&self, name: &str) -> String {
        format!("{}-{name}", self.vhost)
    }

    /// Creates the user, or gives it a password: its name on the broker, which it returns.
    pub(crate) async fn set_password(&self, name: &str, tags: &str) -> Result<String> {
        let name = self.user(name);
        let user = json!({"password": name, "tags": tags});
        let url = format!("{}/api/users/{name}", self.management);
        http::send(&http::client()?, Method::PUT, &url, &user).await?;
        Ok(name)
    }

    /// The AMQP URL of the virtual host for another user.
    pub(crate) fn url_as(&self, user: &str, password: &str) -> String {
        let (scheme, _) = self.server.split_once("://").unwrap_or(("amqp", ""));
        let address = self.address();
        format!("{scheme}://{user}:{password}@{address}/{}", self.vhost)
    }

    /// The management API for this user.
    pub(crate) fn management_as(&self, user: &str, password: &str) -> String {
        let (scheme, rest) = self.management.split_once("://").unwrap_or(("http", ""));
        let address = rest.rsplit('@').next().unwrap_or(rest);
        format!("{scheme}://{user}:{password}@{address}")
    }

    /// The management API, with user and password in the URL.
    pub(crate) fn management(&self) -> &str {
        &self.management
    }

    /// Puts a queue, an exchange or a policy of this name there, as the management API takes it.
    pub(crate) async fn put(&self, kind: &str, name: &str, what: &Value) -> Result<()> {
        let client = http::client()?;
        let below = format!("/{name}");
        self.manage(&client, Method::PUT, kind, &below, what).await
    }

    /// Takes it away again.
    pub(crate) async fn remove(&self, kind: &str, name: &str) -> Result<()> {
        let client = http::client()?;
        let below = format!("/{name}");
        self.manage(&client, Method::DELETE, kind, &below, &Value::Null)
            .await
    }

    /// Imports definitions that are not of one virtual host only, such as users.
    pub(crate) async fn import_all(&self, definitions: &Value) -> Result<()> {
        let url = format!("{}/api/definitions", self.management);
        http::send(&http::client()?, Method::POST, &url, definitions)
            .await
            .map(drop)
    }

    /// What the management API tells of the virtual host's `kind` (`queues`, `exchanges`, `bindings`).
    pub(crate) async fn list(&self, kind: &str) -> Result<Vec<Value>> {
        let url = format!("{}/api/{kind}/{}", self.management, self.vhost);
        let client = http::client()?;
        // A queue that comes or goes while they are listed may make that fail: status 500, without a word.
        let list = async || http::json(&client, &url).await.map(Some);
        eventually(LISTED_WITHIN, "the broker to list them", list).await
    }

    /// Imports a definitions file into the virtual host.
    pub(crate) async fn import(&self, definitions: &Value) -> Result<()> {
        let url = format!("{}/api/definitions/{}", self.management, self.vhost);
        http::send(&http::client()?, Method::POST, &url, definitions)
            .await
            .map(drop)
    }

    /// What the management API says of every quorum queue.
    pub(crate) async fn quorum_queues(&self) -> Result<Vec<Value>> {
        let mut queues = self.list("queues").await?;
        queues.retain(|queue| queue["type"] == "quorum");
        Ok(queues)
    }

    /// Deletes a queue with what it holds.
    pub(crate) async fn delete_queue(&self, queue: &str) -> Result<()> {
        self.manage(
            &http::client()?,
            Method::DELETE,
            "queues",
            &format!("/{queue}"),
            &Value::Null,
        )
        .await
    }

    /// Deletes an exchange with its bindings.
    pub(crate) async fn delete_exchange(&self, exchange: &str) -> Result<()> {
        self.manage(
            &http::client()?,
            Method::DELETE,
            "exchanges",
            &format!("/{exchange}"),
            &Value::Null,
        )
        .await
    }

    /// Closes the one connection whose own name ends in `suffix`, as an operator would. The management API lists a
    /// new connection only after a few seconds.
    pub(crate) async fn close_connection(&self, suffix: &str) -> Result<()> {
        let client = http::client()?;
        let url = format!("{}/api/vhosts/{}/connections", self.management, self.vhost);
        let name = eventually(LISTED_WITHIN, "the connection to be listed", async || {
            let connections: Vec<Value> = http::json(&client, &url).await?;
            let named = connections.iter().find(|connection| {
                let own = connection["client_properties"]["connection_name"].as_str();
                own.is_some_and(|own| own.ends_with(suffix))
            });
            Ok(named.and_then(|connection| connection["name"].as_str().map(str::to_owned)))
        })
        .await?;
        let url = format!("{}/api/connections/{name}", self.management);
        http::send(&client, Method::DELETE, &url, &Value::Null)
            .await
            .map(drop)
    }

    /// How many channels are open on the virtual host.
    pub(crate) async fn channels(&self) -> Result<usize> {
        let url = format!("{}/api/vhosts/{}/channels", self.management, self.vhost);
        let channels: Vec<Value> = http::json(&http::client()?, &url).await?;
        Ok(channels.len())
    }

    async fn manage(
        &self,
        client: &Client,
        method: Method,
        kind: &str,
        below: &str,
        body: &Value,
    ) -> Result<()> {
        let url = format!("{}/api/{kind}/{}{below}", self.management, self.vhost);
        http::send(client, method, &url, body).await.map(drop)
    }

    /// Deletes the virtual host and the users that were made for it.
    async fn delete(&self) -> Result<()> {
        let client = http::client()?;
        let users: Vec<Value> =
            http::json(&client, &format!("{}/api/users", self.management)).await?;
        let own = self.user("");
        for user in users.iter().filter_map(|user| user["name"].as_str()) {
            if user.starts_with(&own) {
                let url = format!("{}/api/users/{user}", self.management);
                client.delete(url).send().await?;
            }
        }
        self.manage(&client, Method::DELETE, "vhosts", "", &Value::Null)
            .await
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The test's own runtime cannot be waited for from inside it: another thread, another runtime.
        let deleted = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?
                        .block_on(self.delete())
                })
                .join()
        });
        match deleted {
            Ok(Ok(())) => {}
            // A private broker may be gone before its virtual host, and with it.
            Ok(Err(error)) => println!("virtual host {} was not deleted: {error:#}", self.vhost),
            Err(_panicked) => println!("virtual host {} was not deleted", self.vhost),
        }
    }
}
