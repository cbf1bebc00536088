-- A second wall between tenants, behind the application's: a role that was granted a tenant may look at the tables, and
-- sees the rows of that tenant only. Workers are the owner of the schema, for whom no policy holds.
CREATE TABLE @schema.tenant_roles (
    role name PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL
);

CREATE FUNCTION @schema.own_tenant() RETURNS text STABLE LANGUAGE sql AS $$
    SELECT tenant FROM @schema.tenant_roles WHERE role = current_user;
$$;

ALTER TABLE @schema.tenant_roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.streams ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.events ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.blobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.blob_users ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.view_rows ENABLE ROW LEVEL SECURITY;

-- `(SELECT …)` is asked once for a query, and not for every row.
CREATE POLICY own_role ON @schema.tenant_roles FOR SELECT USING (role = current_user);
CREATE POLICY own_tenant ON @schema.streams FOR SELECT USING (tenant = (SELECT @schema.own_tenant()));
CREATE POLICY own_tenant ON @schema.blobs FOR SELECT USING (tenant = (SELECT @schema.own_tenant()));
CREATE POLICY own_tenant ON @schema.blob_users FOR SELECT USING (tenant = (SELECT @schema.own_tenant()));
CREATE POLICY own_tenant ON @schema.view_rows FOR SELECT USING (tenant = (SELECT @schema.own_tenant()));
-- The streams of this query are those that its policy shows.
CREATE POLICY own_tenant ON @schema.events FOR SELECT
    USING (EXISTS (SELECT FROM @schema.streams WHERE streams.key = events.stream));
