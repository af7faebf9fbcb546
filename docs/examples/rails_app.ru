# Doorbell in Rails: a page with a bell, a token for it, and an action that rings.
#
# The module, the controllers, the page and the routes are what an app of yours takes; the rest
# makes it a program, with the code that was generated from the proto in lib/:
#
#     RUBYLIB=lib puma rails_app.ru

require "action_controller/railtie"

# config/initializers/doorbell.rb
require "google/protobuf/well_known_types"
require "jwt"
require "uri"
require "doorbell/v1/notifications_services_pb"

module Bell
  # The deadline and the retries of each call; a send has a key, so it is made once.
  CALLS = File.read(File.join(__dir__, "service-config.json"))

  # Made at the first call: each process of a server that forks has its own.
  def self.stub
    @stub ||= begin
      url = URI(ENV.fetch("DOORBELL_URL", "http://127.0.0.1:50051"))
      tls = url.scheme == "https"
      Doorbell::V1::NotificationService::Stub.new(
        "#{url.host}:#{url.port}",
        tls ? GRPC::Core::ChannelCredentials.new : :this_channel_is_insecure,
        timeout: 10,
        channel_args: { "grpc.service_config" => CALLS },
      )
    end
  end

  # Rings, once, however often it is called with this key.
  def self.ring(user_id, key:, data: {}, **content)
    request = Doorbell::V1::SendInAppRequest.new(
      organization_id: "acme",
      recipient_user_id: user_id,
      idempotency_key: key,
      data: Google::Protobuf::Struct.from_hash(data),
      **content,
    )
    authorization = "Bearer #{ENV.fetch("DOORBELL_TOKEN")}"
    stub.send_in_app(request, metadata: { "authorization" => authorization })
  end

  # Signed with the service's own secret, for a quarter of an hour.
  def self.token(user_id)
    claims = { organizationId: "acme", userId: user_id, exp: Time.now.to_i + 15 * 60 }
    JWT.encode(claims, ENV.fetch("DOORBELL_JWT_SECRET"), "HS256")
  end
end

class ApplicationController < ActionController::Base
  private

  # Yours: who is signed in, as your session says it; never as the request does.
  def signed_in
    cookies.signed[:user] or render plain: "Sign in first.\n", status: :unauthorized
  end
end

class DoorbellTokensController < ApplicationController
  before_action :signed_in

  def show
    response.headers["cache-control"] = "no-store"
    render plain: Bell.token(signed_in)
  end
end

class CommentsController < ApplicationController
  before_action :signed_in

  def create
    id, post = params.require([:id, :post_id])
    Bell.ring(
      "alice", # Yours: whose post it is.
      key: "comment-#{id}",
      type: "comment",
      title: "#{signed_in} commented",
      body: params[:text],
      action_url: "/posts/#{post}",
      data: { "post" => post.to_i },
    )
    head :no_content
  end
end

# The page, a view of yours.
PAGE = <<~HTML
  <!doctype html>
  <title>Posts</title>
  <script type="module" src="/standalone.js"></script>
  <doorbell-inbox url="<%= ENV.fetch("DOORBELL_URL", "http://127.0.0.1:50051") %>"></doorbell-inbox>
  <script type="module">
    document.querySelector("doorbell-inbox").getToken = async () => {
      const answer = await fetch("/doorbell-token");
      if (!answer.ok) throw new Error(`/doorbell-token answers ${answer.status}`);
      return await answer.text();
    };
  </script>
HTML

class PagesController < ApplicationController
  def show
    render inline: PAGE
  end
end

# What makes it a program: an app of yours has all that, and people who sign in.
class App < Rails::Application
  config.root = Dir.pwd
  config.eager_load = false
  config.hosts.clear
  config.logger = Logger.new($stderr)
  config.secret_key_base = "an example that signs cookies of nobody else"
  config.action_controller.allow_forgery_protection = false
  config.public_file_server.enabled = true
end

class SessionsController < ApplicationController
  def show
    cookies.signed[:user] = params.require(:user)
    render plain: "Hello #{params[:user]}.\n"
  end
end

App.initialize!
App.routes.draw do
  root "pages#show"
  get "doorbell-token", to: "doorbell_tokens#show"
  post "posts/:post_id/comments", to: "comments#create"
  get "sign-in/:user", to: "sessions#show"
end

run App
